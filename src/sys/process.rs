//! What the process takes of its machine.

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::signal::{Signal, raise};
use std::fs;
use std::time::Duration;

/// Clock ticks of /proc in a second: USER_HZ, 100 in every Linux ABI (proc(5), sysconf(3)).
const TICKS_PER_SECOND: f64 = 100.0;

/// The process at one moment. `None` where /proc is not mounted or does not say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Processor time, of all threads, in user and kernel.
    pub cpu: Option<Duration>,
    /// Resident memory.
    pub resident_bytes: Option<u64>,
    /// Address space.
    pub virtual_bytes: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// How many may be open.
    pub max_fds: Option<u64>,
    /// When it started, in seconds since 1970.
    pub started_unix_seconds: Option<f64>,
}

/// Has this process end as if by SIGTERM.
pub fn ask_to_stop() {
    // A process may always signal itself.
    let _ = raise(Signal::SIGTERM);
}

impl Figures {
    /// Asks the kernel.
    pub fn now() -> Figures {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Figures {
            cpu: cpu(),
            resident_bytes: kib_line(&status, "VmRSS:"),
            virtual_bytes: kib_line(&status, "VmSize:"),
            open_fds: open_fds(),
            max_fds: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
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

/// Kernels from 6.2 on answer with the folder's size; a listing of a hundred thousand takes long.
fn open_fds() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64),
        count => Some(count),
    }
}

fn started() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, second of the fields, may hold anything; starttime is the 22nd.
    let after_name = stat.rsplit_once(')')?.1;
    let ticks: f64 = after_name.split_whitespace().nth(19)?.parse().ok()?;
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let booted = machine.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(booted.trim().parse::<f64>().ok()? + ticks / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn the_figures_are_this_processs() {
        let before = Figures::now();
        let files: Vec<_> = (0..20).filter_map(|_| fs::File::open("/dev/null").ok()).collect();
        let memory = vec![1u8; 64 << 20];
        let after = Figures::now();
        // Other tests open and close theirs meanwhile.
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
}
