//! Settings of the machine's kernel that are others while something is measured, and are put back.

use std::fs;
use std::io::Result;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A setting until it is dropped.
pub struct Setting {
    /// Waits for us to end, in whatever way, and puts back what was.
    keeper: Child,
}

/// Lets processes of real-time priority have all of a processor: a load that never sleeps needs it. Whatever else the
/// machine runs would take a processor for its slice of milliseconds now and then, which decides every 99th percentile.
///
/// # Errors
/// That takes root, and a machine that lets root do so.
pub fn unbound_realtime() -> Result<Setting> {
    Setting::begin("/proc/sys/kernel/sched_rt_runtime_us", "-1")
}

/// Lets the loopback queue what the kernel sends in one go: its probes of idle connections come by the thousand where
/// so many are held, those that do not fit are lost, and connections end of it. It is the whole machine's, and hidden in
/// a network of one's own.
///
/// # Errors
/// That takes root.
pub fn lengthen_backlog() -> Result<Setting> {
    Setting::begin("/proc/sys/net/core/netdev_max_backlog", "1000000")
}

impl Setting {
    fn begin(path: &str, value: &str) -> Result<Self> {
        let before = fs::read_to_string(path)?;
        let mut keeper = Command::new("sh");
        keeper.args(["-c", &format!("read -r _; echo {} >{path}", before.trim())]);
        // Not in reach of an interrupt from the terminal.
        let keeper = keeper.stdin(Stdio::piped()).process_group(0).spawn()?;
        let setting = Setting { keeper };
        fs::write(path, value)?;
        Ok(setting)
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
