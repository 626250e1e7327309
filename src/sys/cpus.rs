//! CPUs: which ones the process may use, lists of them, pinning a thread to one, and a thread's timers and CPU time.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use std::io;
use std::time::Duration;

/// The CPUs that this process may use, ascending.
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

/// How many threads the process can run at the same time: its CPUs, limited by the cgroup quota.
pub fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Pins the calling thread to `cpu`.
pub fn pin_this_thread(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    Ok(())
}

/// Parses a list such as `0-3,6`. Keeps its order. The error names the remedy.
pub fn parse_list(typed: &str) -> Result<Vec<usize>, String> {
    const FORM: &str = "write CPU numbers and ranges, such as 0-3,6";
    let number = |digits: &str| -> Result<usize, String> {
        let cpu = match digits.bytes().all(|byte| byte.is_ascii_digit()) {
            true => digits.parse().map_err(|_| FORM.to_owned())?,
            false => return Err(FORM.to_owned()),
        };
        match cpu < CpuSet::count() {
            true => Ok(cpu),
            false => Err(format!("there is no CPU {cpu}: {FORM}")),
        }
    };
    let mut cpus = Vec::new();
    for part in typed.split(',').map(str::trim) {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(format!("{part} runs backwards: write it as {last}-{first}"));
        }
        for cpu in first..=last {
            if cpus.contains(&cpu) {
                return Err(format!("CPU {cpu} is listed twice: list each CPU once, for one worker"));
            }
            cpus.push(cpu);
        }
    }
    Ok(cpus)
}

/// Formats ascending CPUs as a list such as `0-3,6`.
pub fn format_list(cpus: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let texts: Vec<String> = ranges
        .iter()
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    texts.join(",")
}

/// How late the kernel may end a thread's sleep so that it can batch wake-ups; the default is 50 us.
const TIMER_SLACK_NS: u64 = 5_000;

/// Makes the kernel end this thread's sleeps on time (PR_SET_TIMERSLACK, prctl(2)). If the kernel refuses, they
/// last a little longer.
pub fn reduce_timer_slack_of_this_thread() {
    let _ = nix::sys::prctl::set_timerslack(TIMER_SLACK_NS);
}

/// The CPU time that the calling thread has used (clock_gettime(2)). It is a system call.
pub fn thread_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_order() {
        assert_eq!(parse_list("0"), Ok(vec![0]));
        assert_eq!(parse_list("0-3,6"), Ok(vec![0, 1, 2, 3, 6]));
        assert_eq!(parse_list("6, 1-2"), Ok(vec![6, 1, 2]));
        assert_eq!(parse_list("5-5"), Ok(vec![5]));
    }

    #[test]
    fn invalid_lists_are_refused() {
        for bad in ["", ",", "0,", "a", "-1", "1-", "1-2-3", "+1", "0x1", "1.5", "99999999999999999999"] {
            let error = parse_list(bad).unwrap_err();
            assert!(error.contains("0-3,6"), "{bad:?}: {error}");
        }
        assert!(parse_list("3-0").unwrap_err().contains("backwards: write it as 0-3"));
        assert!(parse_list("0-3,2").unwrap_err().contains("CPU 2 is listed twice"));
        // The parser refuses a huge range before it expands it.
        assert!(parse_list("0-18446744073709551615").unwrap_err().contains("there is no CPU"));
    }

    #[test]
    fn a_formatted_list_parses_to_the_same_cpus() {
        assert_eq!(format_list(&[0, 1, 2, 3, 6]), "0-3,6");
        assert_eq!(format_list(&[1, 3]), "1,3");
        assert_eq!(format_list(&[]), "");
        let allowed = allowed().expect("affinity");
        assert_eq!(parse_list(&format_list(&allowed)), Ok(allowed));
    }

    #[test]
    fn a_pinned_thread_stays_on_its_cpu() {
        let cpu = *allowed().expect("affinity").last().expect("one CPU");
        std::thread::spawn(move || {
            pin_this_thread(cpu).expect("pinned");
            assert_eq!(allowed().expect("affinity"), [cpu]);
        })
        .join()
        .expect("the thread");
    }
}
