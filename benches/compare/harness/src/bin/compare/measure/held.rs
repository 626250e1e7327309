//! Memory: idle polls that are held, and polls that were aborted.

use std::time::Duration;

use anyhow::Result;
use harness::process;

use super::Measure;
use crate::load::{self, Held};
use crate::results::{Aborts, Resident};
use crate::running::{Place, Running};

const IDLE_WITHIN: Duration = Duration::from_secs(30);

impl Measure {
    pub(super) fn memory(&mut self) -> Result<()> {
        for server in self.servers.clone().into_iter().filter(|server| server.parts.memory) {
            let running = Running::start(&server, Place::SERVER)?;
            process::wait_idle(running.pid(), IDLE_WITHIN);
            let mut rows = vec![Resident { held: 0, rss_bytes: process::rss_bytes(running.pid()) }];
            let mut polls = Held::start(running.addr, server.open_rate)?;
            for &wanted in &self.plan.held {
                let now = polls.hold(wanted)?;
                process::wait_idle(running.pid(), IDLE_WITHIN);
                let rss_bytes = process::rss_bytes(running.pid());
                println!("memory      {:<24} {:>8} held  {:>9} KiB", server.name, now.held, rss_bytes / 1024);
                if now.renewed > 0 {
                    println!(
                        "            {:<24} {:>8} polls were ended by the server",
                        server.name, now.renewed
                    );
                }
                rows.push(Resident { held: now.held, rss_bytes });
            }
            self.results.memory.insert(server.name.to_owned(), rows);
        }
        Ok(())
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
