//! Memory: idle held polls, and aborted polls.

use std::time::Duration;

use anyhow::Result;
use harness::process;

use super::{Measure, up_to};
use crate::crowd::Held;
use crate::load;
use crate::results::{Aborts, Resident};
use crate::running::{Place, Running};
use crate::servers::Server;

const IDLE_WITHIN: Duration = Duration::from_secs(30);

impl Measure {
    pub(super) fn memory(&mut self) -> Result<()> {
        for server in self.servers.clone().into_iter().filter(|server| server.parts.memory) {
            let mut rows = self.resident(&server, &up_to(self.per_process, &self.plan.held))?;
            // A separate broker holds from no poll to the most, so that the memory of more workers does not
            // count as memory of polls.
            let (many, most) = self.reaching(&server, self.plan.held_most());
            if many.workers > 1 {
                rows.extend(self.resident(&many, &[most])?);
            }
            self.results.memory.insert(server.name.to_owned(), rows);
        }
        Ok(())
    }

    fn resident(&self, server: &Server, steps: &[u64]) -> Result<Vec<Resident>> {
        let running = Running::start(server, Place::SERVER)?;
        process::wait_idle(running.pid(), IDLE_WITHIN);
        let row =
            |held| Resident { workers: server.workers, held, rss_bytes: process::rss_bytes(running.pid()) };
        let mut rows = vec![row(0)];
        let mut polls = Held::new(running.addr, server.open_rate, self.per_process);
        for &wanted in steps {
            let now = polls.hold(wanted)?;
            process::wait_idle(running.pid(), IDLE_WITHIN);
            let row = row(now.held);
            println!("memory      {:<24} {:>8} held  {:>9} KiB", server.name, now.held, row.rss_bytes / 1024);
            if now.renewed > 0 {
                println!("            {:<24} {:>8} polls were ended by the server", server.name, now.renewed);
            }
            rows.push(row);
        }
        Ok(rows)
    }

    pub(super) fn aborts(&mut self) -> Result<()> {
        for server in self.servers.clone().into_iter().filter(|server| server.parts.memory) {
            let running = Running::start(&server, Place::SERVER)?;
            process::wait_idle(running.pid(), IDLE_WITHIN);
            let rss_before_bytes = process::rss_bytes(running.pid());
            let done =
                load::abort(running.addr, self.plan.aborts, server.open_rate, self.plan.aborts_secs_max)?;
            process::wait_idle(running.pid(), IDLE_WITHIN);
            let rss_after_bytes = process::rss_bytes(running.pid());
            println!(
                "aborts      {:<24} {:>8} in {:.0} s  {:>9} KiB",
                server.name,
                done.aborted,
                done.seconds,
                rss_after_bytes / 1024
            );
            let aborts = Aborts { done, rss_before_bytes, rss_after_bytes };
            self.results.aborts.insert(server.name.to_owned(), aborts);
        }
        Ok(())
    }
}
