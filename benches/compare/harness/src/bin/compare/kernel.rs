//! Kernel settings that are changed during a measurement and restored after it.

use std::fs;
use std::io::Result;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A changed setting, restored when dropped.
pub struct Setting {
    /// A process that waits for the harness to end, in any way, and restores the setting.
    keeper: Child,
}

/// Lets processes with real-time priority use a processor completely, which a load that never sleeps needs. Otherwise
/// other processes would take slices of milliseconds, which decide every 99th percentile.
///
/// # Errors
/// This needs root, and a machine that permits it.
pub fn unbound_realtime() -> Result<Setting> {
    Setting::begin("/proc/sys/kernel/sched_rt_runtime_us", "-1")
}

/// Makes the loopback's queue longer. The kernel sends thousands of probes of idle connections at once; those that do
/// not fit are lost, and connections end. The setting is global and invisible in another network namespace.
///
/// # Errors
/// This needs root.
pub fn lengthen_backlog() -> Result<Setting> {
    Setting::begin("/proc/sys/net/core/netdev_max_backlog", "1000000")
}

impl Setting {
    fn begin(path: &str, value: &str) -> Result<Self> {
        let before = fs::read_to_string(path)?;
        let mut keeper = Command::new("sh");
        keeper.args(["-c", &format!("read -r _; echo {} >{path}", before.trim())]);
        // In its own process group, so that Ctrl-C does not reach it.
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
