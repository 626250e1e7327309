//! A load tool as a child process that is controlled by lines on stdin and answers with lines.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::running::Place;

/// The process, which ends when this is dropped.
pub struct Led {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Led {
    pub fn start(mut tool: Command, place: Place) -> Result<Self> {
        place.apply(&mut tool);
        let tool = tool.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = tool.spawn().with_context(|| format!("cannot start {tool:?}"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else { bail!("{tool:?} has no pipes") };
        Ok(Led { child, input, output: BufReader::new(output) })
    }

    pub fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}").context("a tool of the load ended")
    }

    pub fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.output.read_line(&mut line)? {
            0 => bail!("a tool of the load ended"),
            _ => Ok(line),
        }
    }
}

impl Drop for Led {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
