//! What the process uses: CPU time, memory, descriptors.

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::signal::{Signal, raise};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Clock ticks of /proc in a second: USER_HZ, 100 in every Linux ABI (proc(5), sysconf(3)).
const TICKS_PER_SECOND: f64 = 100.0;

/// The prefix of the names of the workers' threads.
pub const WORKER_THREAD: &str = "worker-";

/// What the process uses at one moment. `None` where /proc is not mounted or does not contain it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// CPU time of all threads, in user and kernel mode.
    pub cpu: Option<Duration>,
    pub resident_bytes: Option<u64>,
    pub virtual_bytes: Option<u64>,
    /// Open descriptors in all tables.
    pub open_fds: Option<u64>,
    /// The limit of open descriptors in all tables together.
    pub max_fds: Option<u64>,
    /// When it started, in seconds since 1970.
    pub started_unix_seconds: Option<f64>,
}

/// Starts the shutdown of this process with a SIGTERM.
pub fn ask_to_stop() {
    // A process may always signal itself.
    let _ = raise(Signal::SIGTERM);
}

impl Figures {
    /// Asks the kernel. `own_tables`: the number of workers with their own tables of descriptors.
    pub fn now(own_tables: usize) -> Figures {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Figures {
            cpu: cpu(),
            resident_bytes: kib_line(&status, "VmRSS:"),
            virtual_bytes: kib_line(&status, "VmSize:"),
            open_fds: match own_tables {
                0 => open_fds(Path::new("/proc/self")),
                _ => open_fds_of_all(),
            },
            max_fds: getrlimit(Resource::RLIMIT_NOFILE)
                .ok()
                .map(|(soft, _)| soft.saturating_mul(1 + own_tables as u64)),
            started_unix_seconds: started(),
        }
    }
}

fn cpu() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let micros = |time: nix::sys::time::TimeVal| (time.tv_sec() * 1_000_000 + time.tv_usec()) as u64;
    Some(Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time())))
}

fn kib_line(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1_024)
}

/// The descriptors of the process's first thread, and those of workers with their own tables.
fn open_fds_of_all() -> Option<u64> {
    let own_tables = fs::read_dir("/proc/self/task").ok()?.filter_map(|thread| {
        let thread = thread.ok()?.path();
        let name = fs::read_to_string(thread.join("comm")).ok()?;
        name.starts_with(WORKER_THREAD).then(|| open_fds(&thread))?
    });
    Some(open_fds(Path::new("/proc/self"))? + own_tables.sum::<u64>())
}

/// Since Linux 6.2 the folder's size is their number; listing a hundred thousand takes long.
fn open_fds(process_or_thread: &Path) -> Option<u64> {
    let fds = process_or_thread.join("fd");
    match fs::metadata(&fds).ok()?.len() {
        0 => Some(fs::read_dir(&fds).ok()?.count() as u64),
        count => Some(count),
    }
}

fn started() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name is the second field and may contain spaces; starttime is the 22nd field.
    let after_name = stat.rsplit_once(')')?.1;
    let ticks: f64 = after_name.split_whitespace().nth(19)?.parse().ok()?;
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let booted = machine.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(booted.trim().parse::<f64>().ok()? + ticks / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::descriptors::take_own_table;
    use std::sync::mpsc;
    use std::thread;
    use std::time::SystemTime;

    #[test]
    fn the_figures_describe_this_process() {
        let before = Figures::now(0);
        let files: Vec<_> = (0..20).filter_map(|_| fs::File::open("/dev/null").ok()).collect();
        let memory = vec![1u8; 64 << 20];
        let after = Figures::now(0);
        // Other tests open and close descriptors meanwhile.
        assert!(after.open_fds >= Some(files.len() as u64) && files.len() == 20, "{after:?}");
        assert!(after.resident_bytes > Some(60 << 20), "{after:?}");
        assert!(after.virtual_bytes > after.resident_bytes);
        assert!(after.cpu > Some(Duration::ZERO) && after.cpu >= before.cpu);
        assert!(after.max_fds > after.open_fds);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - after.started_unix_seconds.unwrap();
        assert!((-2.0..3_600.0).contains(&age), "{age}");
        drop((files, memory));
    }

    #[test]
    fn tables_of_workers_are_counted() {
        let (taken, wait) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let thread = thread::Builder::new().name(format!("{WORKER_THREAD}of-a-test"));
        let thread = thread.spawn(move || {
            take_own_table(&[]).unwrap();
            let files: Vec<_> = (0..100).filter_map(|_| fs::File::open("/dev/null").ok()).collect();
            taken.send(files.len()).unwrap();
            // Until the sender is dropped.
            let _ = ended.recv();
        });
        assert_eq!(wait.recv(), Ok(100));
        let (shared, all) = (Figures::now(0), Figures::now(1));
        assert!(all.open_fds.unwrap() > shared.open_fds.unwrap() + 50, "{all:?} {shared:?}");
        assert_eq!(all.max_fds.unwrap(), 2 * shared.max_fds.unwrap());
        drop(end);
        thread.unwrap().join().unwrap();
    }
}
