//! More polls than one process has descriptors for: several processes share them, each with its own addresses.

use std::net::SocketAddrV4;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use harness::report::{OpenLoop, Report, together};
use harness::socket;
use serde::{Deserialize, Serialize};

use crate::led::Led;
use crate::load::tool;
use crate::running::Place;

const SUPERVISORS: u64 = 50;
/// From the start command to the first dispatch. By then every process has read the server's memory and sleeps.
const CUE: Duration = Duration::from_millis(200);

/// Polls that are held until this is dropped.
pub struct Held {
    addr: SocketAddrV4,
    rate: u32,
    /// The most polls of one process.
    each: u64,
    holders: Vec<Led>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HeldNow {
    pub held: u64,
    pub renewed: u64,
}

impl Held {
    pub fn new(addr: SocketAddrV4, rate: u32, each: u64) -> Self {
        Held { addr, rate, each, holders: Vec::new() }
    }

    /// Fills one holder after the other.
    pub fn hold(&mut self, polls: u64) -> Result<HeldNow> {
        let mut all = HeldNow::default();
        for index in 0..polls.div_ceil(self.each) {
            if self.holders.len() as u64 == index {
                self.holders.push(self.holder(index)?);
            }
            let holder = &mut self.holders[index as usize];
            holder.tell(&self.each.min(polls - self.each * index).to_string())?;
            let now: HeldNow = serde_json::from_str(&holder.answer()?).context("the output of hold")?;
            all.held += now.held;
            all.renewed += now.renewed;
        }
        Ok(all)
    }

    fn holder(&self, index: u64) -> Result<Led> {
        let mut tool = tool("hold", self.addr);
        tool.args(["--rate", &self.rate.to_string()]);
        tool.args(["--first-source", &first_source(index, self.each).to_string()]);
        Led::start(tool, Place::LOAD)
    }
}

/// The polls of an open loop and their deployments.
#[derive(Clone, Copy)]
pub struct Crowd {
    pub polls: u64,
    pub keys: u64,
}

/// An open loop with one process or several.
pub struct Shared {
    pub crowd: Crowd,
    pub processes: u64,
    pub rate: f64,
    pub open_rate: u32,
    pub secs: f64,
    pub watch: Option<Watch>,
}

/// How a load of one process separates the server's latencies from the machine's stalls.
#[derive(Clone, Copy)]
pub struct Watch {
    /// The server's core.
    pub cpu: usize,
    /// The load as a share of the server's capacity.
    pub load_share: f64,
}

impl Shared {
    pub fn run(&self, addr: SocketAddrV4, pid: u32, place: Place) -> Result<OpenLoop> {
        let mut members = Vec::new();
        for index in 0..self.processes {
            let mut tool = tool("openloop", addr);
            tool.args(["--on-cue", "--server-pid", &pid.to_string()]).args(self.args_of(index));
            members.push(Led::start(tool, place)?);
        }
        // Waits until each process has reported that its polls are open.
        members.iter_mut().try_for_each(|member| member.answer().map(drop))?;
        // Staggered, so that the dispatches of the processes do not coincide.
        let apart = Duration::from_secs_f64(1.0 / self.rate);
        let begin = SystemTime::now().duration_since(UNIX_EPOCH)? + CUE;
        for (member, index) in members.iter_mut().zip(0..) {
            member.tell(&(begin + apart * index).as_nanos().to_string())?;
        }
        let reports = members.iter_mut().map(|member| {
            let report: Report = serde_json::from_str(&member.answer()?).context("the report of openloop")?;
            Ok(report)
        });
        Ok(together(&reports.collect::<Result<Vec<_>>>()?))
    }

    /// The arguments for the share of one process. Each process has at least one key that no other has: it would not know a
    /// run that another process dispatched.
    fn args_of(&self, index: u64) -> Vec<String> {
        let share = |of: u64| of / self.processes + u64::from(index < of % self.processes);
        let before = |of: u64| of / self.processes * index + index.min(of % self.processes);
        let keys = self.crowd.keys.max(self.processes);
        let args = [
            ("--runners", share(self.crowd.polls)),
            ("--supervisors", share(SUPERVISORS).max(1)),
            ("--keys", share(keys)),
            ("--first-key", before(keys)),
            ("--first-source", first_source(index, self.crowd.polls.div_ceil(self.processes))),
            ("--open-rate", u64::from(self.open_rate) / self.processes),
        ];
        let rate = ["--rate".to_owned(), (self.rate / self.processes as f64).to_string()];
        let secs = ["--secs".to_owned(), self.secs.to_string()];
        // A single process has the core and spins; several sleep until a dispatch is due.
        let alone = self.processes == 1;
        let spin = alone.then(|| "--spin".to_owned());
        let watch = self.watch.filter(|_| alone).into_iter().flat_map(|Watch { cpu, load_share }| {
            ["--watch-cpu".to_owned(), cpu.to_string(), "--load-share".to_owned(), load_share.to_string()]
        });
        let args = args.into_iter().flat_map(|(name, value)| [name.to_owned(), value.to_string()]);
        args.chain(rate).chain(secs).chain(spin).chain(watch).collect()
    }
}

/// The first source address (127.0.0.N) of a process, where each has `polls`.
fn first_source(index: u64, polls: u64) -> u64 {
    1 + index * polls.div_ceil(socket::PER_SOURCE_MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_complete_and_disjoint() {
        let shared = |processes, keys| Shared {
            crowd: Crowd { polls: 100, keys },
            processes,
            rate: 10_000.0,
            open_rate: 30_000,
            secs: 3.0,
            watch: Some(Watch { cpu: 0, load_share: 0.25 }),
        };
        let value = |shared: &Shared, index, name: &str| {
            let args = shared.args_of(index);
            let at = args.iter().position(|arg| arg == name).expect(name);
            args[at + 1].parse::<f64>().unwrap()
        };
        for (processes, keys, all_keys) in [(1, 1, 1), (3, 1, 3), (3, 10, 10)] {
            let shared = shared(processes, keys);
            let sum = |name| (0..processes).map(|index| value(&shared, index, name)).sum::<f64>();
            assert_eq!(
                (sum("--runners"), sum("--keys"), sum("--supervisors")),
                (100.0, all_keys as f64, 50.0)
            );
            let mut next_key = 0.0;
            for index in 0..processes {
                assert_eq!(value(&shared, index, "--first-key"), next_key);
                next_key += value(&shared, index, "--keys");
                assert_eq!(value(&shared, index, "--first-source"), 1.0 + index as f64);
            }
            for spins in ["--spin", "--watch-cpu", "--load-share"] {
                assert_eq!(shared.args_of(0).contains(&spins.to_owned()), processes == 1);
            }
        }
    }
}
