//! Real-time priority, for as long as latencies are measured: whatever else the machine runs would take a processor for
//! its slice of milliseconds now and then, which decides every 99th percentile.

use std::fs;
use std::io::Result;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// How much of each second processes of real-time priority may have; a load that never sleeps needs all of it.
const RUNTIME: &str = "/proc/sys/kernel/sched_rt_runtime_us";
const ALL_OF_IT: &str = "-1";

/// Lets real-time processes have all of a processor until it is dropped.
pub struct Unbounded {
    /// Waits for us to end, in whatever way, and puts the bound back.
    keeper: Child,
}

impl Unbounded {
    /// # Errors
    /// That takes root, and a machine that lets root do so.
    pub fn begin() -> Result<Self> {
        let before = fs::read_to_string(RUNTIME)?;
        let mut keeper = Command::new("sh");
        keeper.args(["-c", &format!("read -r _; echo {} >{RUNTIME}", before.trim())]);
        // Not in reach of an interrupt from the terminal.
        let keeper = keeper.stdin(Stdio::piped()).process_group(0).spawn()?;
        let unbounded = Unbounded { keeper };
        fs::write(RUNTIME, ALL_OF_IT)?;
        Ok(unbounded)
    }
}

impl Drop for Unbounded {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
