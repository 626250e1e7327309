//! The cost of a process, read from /proc.

use std::fs;
use std::time::{Duration, Instant};

/// CPU time of all running threads, in nanoseconds. Ended threads do not count.
pub fn cpu_ns(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// Resident memory in bytes, exact.
pub fn rss_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let rss = text
        .lines()
        .find_map(|line| line.strip_prefix("Rss:")?.split_whitespace().next()?.parse::<u64>().ok());
    rss.unwrap_or(0) * 1024
}

/// Waits until the process is idle: less than 2 % of a core within 200 ms. Returns whether it was.
pub fn wait_idle(pid: u32, at_most: Duration) -> bool {
    const STEP: Duration = Duration::from_millis(200);
    let started = Instant::now();
    let mut before = cpu_ns(pid);
    while started.elapsed() < at_most {
        std::thread::sleep(STEP);
        let now = cpu_ns(pid);
        if now.saturating_sub(before) < STEP.as_nanos() as u64 / 50 {
            return true;
        }
        before = now;
    }
    false
}

/// /proc/PID/stat: the command's name, the parent, and the CPU ticks of the process and its ended children.
struct Stat {
    name: String,
    parent: u32,
    ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name is in parentheses and may contain any character.
    let (name, fields) = text.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        name: name.to_owned(),
        parent: field(4)? as u32,
        ticks: field(14)? + field(15)? + field(16)? + field(17)?,
    })
}

/// CPU time of all other processes.
#[derive(Clone, Copy)]
pub struct Foreign {
    ticks: i64,
    stolen_ticks: i64,
    at: Instant,
}

impl Foreign {
    /// All processes except this one and those that it started, plus the hypervisor's steal time.
    pub fn now() -> Self {
        let own = std::process::id();
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let foreign = pids.filter(|&pid| pid != own).filter_map(stat).filter(|stat| stat.parent != own);
        // ksoftirqd does network work of the server and the load.
        let foreign = foreign.filter(|stat| !stat.name.starts_with("ksoftirqd/"));
        let ticks = foreign.map(|stat| stat.ticks as i64).sum();
        Foreign { ticks, stolen_ticks: stolen_ticks(), at: Instant::now() }
    }

    /// The share of one core since `before`, in percent.
    pub fn percent_since(self, before: Foreign) -> f64 {
        const TICKS_PER_SECOND: f64 = 100.0;
        let ticks = (self.ticks - before.ticks).max(0) + (self.stolen_ticks - before.stolen_ticks).max(0);
        let seconds = self.at.duration_since(before.at).as_secs_f64();
        ticks as f64 / TICKS_PER_SECOND / seconds * 100.0
    }
}

fn stolen_ticks() -> i64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    text.lines().next().and_then(|line| line.split_whitespace().nth(8)?.parse().ok()).unwrap_or(0)
}
