//! The open loop: dispatches at a fixed rate that does not depend on the server.

use anyhow::Result;
use harness::process::Foreign;
use harness::report::OpenLoop;

use super::{Measure, up_to};
use crate::crowd::{Crowd, Shared, Watch};
use crate::kernel;
use crate::load;
use crate::results::{Keys, Latency, Pair, Workers};
use crate::running::{Place, Running};
use crate::servers::{Kind, Server, side_by_side};

/// A low rate, so that every arrangement can serve it.
const PAIR_RATE: f64 = 10_000.0;
const FEW: Crowd = Crowd { polls: 500, keys: 1 };

impl Measure {
    /// Runs both sides at real-time priority, so that other processes cannot take their processor.
    pub(super) fn undisturbed(&mut self, section: fn(&mut Self) -> Result<()>) -> Result<()> {
        let unbounded = kernel::unbound_realtime();
        self.results.realtime = unbounded.is_ok();
        if let Err(error) = &unbounded {
            eprintln!("latencies at ordinary priority: {error}");
        }
        section(self)
    }

    pub(super) fn latency(&mut self) -> Result<()> {
        for round in 1..=self.plan.latency_rounds {
            let percents: &[u32] = if round == 1 && !self.plan.quick { &[25, 50, 75] } else { &[50] };
            for server in side_by_side(&self.servers).into_iter().filter(|server| server.parts.latency) {
                let Some(capacity) = self.results.warm_per_second(server.name) else {
                    eprintln!("latency of {} needs its capacity: run the windows too", server.name);
                    continue;
                };
                for &percent in percents {
                    let rate = capacity * f64::from(percent) / 100.0;
                    let report = self.latency_at(&server, percent, rate)?;
                    if percent == 50 && server.kind == Kind::Ours {
                        self.beside(&server, rate, &report)?;
                    }
                    let rows = self.results.latency.entry(server.name.to_owned()).or_default();
                    rows.push(Latency { percent, report });
                }
            }
        }
        Ok(())
    }

    /// Measures the floor of `server` at the same rate, right after it.
    fn beside(&mut self, server: &Server, rate: f64, ours: &OpenLoop) -> Result<()> {
        let floor = self.servers.iter().find(|floor| Some(floor.name) == server.floor).cloned();
        let Some(floor) = floor else { return Ok(()) };
        let report = self.latency_at(&floor, 50, rate)?;
        let pair = Pair { floor_name: floor.name.to_owned(), ours: ours.clone(), floor: report };
        self.results.pairs.entry(server.name.to_owned()).or_default().push(pair);
        Ok(())
    }

    fn latency_at(&mut self, server: &Server, percent: u32, rate: f64) -> Result<OpenLoop> {
        let server = server.with(server.echo_args);
        let watch = Watch { cpu: Place::SERVER.cpus[0], load_share: f64::from(percent) / 100.0 };
        // At ordinary priority other processes take the server's core, and the watch does not see them.
        let watch = self.results.realtime.then_some(watch);
        let report = self.quiet_open_loop(&server, rate, FEW, watch)?;
        let calm = report.calm.as_ref().map_or(String::new(), |calm| {
            format!(
                ", the server's core {:.1} %, {:.1} % left out: p99 {:.0} us, of the typical thousand {:.0} us",
                calm.server_stalled_percent,
                calm.left_out_percent,
                calm.to_runner_us.p99,
                calm.typical_p99_to_runner_us
            )
        });
        println!(
            "latency     {:<24} {percent} % ({rate:.0}/s)  to the runner p50 {:.0} p99 {:.0} us  to the answer p99 {:.0} us  foreign {:.1} %  stalled {:.1} %{calm}",
            server.name,
            report.to_runner_us.p50,
            report.to_runner_us.p99,
            report.to_answer_us.p99,
            report.foreign_percent,
            report.stalled_percent
        );
        Ok(report)
    }

    pub(super) fn keys(&mut self) -> Result<()> {
        let keys = self.plan.crowd.keys;
        for server in self.servers.clone().into_iter().filter(|server| server.parts.keys) {
            // The few polls and the many polls are held by the same number of workers.
            let (server, polls) = self.reaching(&server, self.plan.crowd.polls);
            let mut found = Keys { one: Vec::new(), many: Vec::new() };
            for _ in 0..self.plan.keys_rounds {
                // A floor has no keys: a random poll is equivalent to a random key.
                let one = self.quiet_open_loop(&server.with(server.echo_args), PAIR_RATE, FEW, None)?;
                let crowd = Crowd { polls, keys };
                let many = self.quiet_open_loop(&server.with(server.scatter_args), PAIR_RATE, crowd, None)?;
                println!(
                    "keys        {:<24} {:.2} us/match with few keys, {:.2} with {keys} keys of {polls} polls, {} cold",
                    server.name, one.cpu_us_per_match, many.cpu_us_per_match, many.counts.cold
                );
                found.one.push(one);
                found.many.push(many);
            }
            self.results.keys.insert(server.name.to_owned(), found);
        }
        Ok(())
    }

    pub(super) fn workers(&mut self) -> Result<()> {
        for server in self.servers.clone().into_iter().filter(|server| server.parts.workers) {
            // One descriptor table for all workers, which may not be the default here.
            let two = server.with(&["--descriptor-tables", "process"]);
            let mut found = Workers { one: Vec::new(), together: Vec::new(), apart: Vec::new() };
            for _ in 0..self.plan.workers_rounds {
                let one = self.arrangement(&server, Place::SERVER, &[])?;
                let together = self.arrangement(&two, Place::BOTH, &["--split", "together"])?;
                let apart = self.arrangement(&two, Place::BOTH, &["--split", "apart"])?;
                println!(
                    "workers     {:<24} {:.2} us/match with one, {:.2} with two on the same core, {:.2} across",
                    server.name, one.cpu_us_per_match, together.cpu_us_per_match, apart.cpu_us_per_match
                );
                found.one.push(one);
                found.together.push(together);
                found.apart.push(apart);
            }
            self.results.workers = Some(found);
        }
        Ok(())
    }

    /// The load sleeps between dispatches and may run on either core, since a worker may need its core.
    fn arrangement(&self, server: &Server, workers: Place, args: &[&str]) -> Result<OpenLoop> {
        let running = Running::start(server, workers)?;
        load::open_loop(running.addr, running.pid(), Place::BOTH, &self.open_args(PAIR_RATE, args))
    }

    pub(super) fn scale(&mut self) -> Result<()> {
        for server in self.servers.clone().into_iter().filter(|server| server.parts.scale) {
            let (server, most) = self.reaching(&server, self.plan.scale_most());
            for polls in up_to(most, &self.plan.scale) {
                let report = self.open_loop(&server, PAIR_RATE, Crowd { polls, keys: 1 }, None)?;
                println!(
                    "scale       {:<24} {polls} held  {} KiB  {:.2} us/match  to the runner p99 {:.0} us",
                    server.name,
                    report.rss_bytes / 1024,
                    report.cpu_us_per_match,
                    report.to_runner_us.p99
                );
                self.results.scale.push(report);
            }
        }
        Ok(())
    }

    fn quiet_open_loop(
        &mut self,
        server: &Server,
        rate: f64,
        crowd: Crowd,
        watch: Option<Watch>,
    ) -> Result<OpenLoop> {
        self.quiet(OpenLoop::disturbance, |m| m.open_loop(server, rate, crowd, watch))
    }

    /// The load has as many processes as the server has workers, with the same number of polls each.
    fn open_loop(&self, server: &Server, rate: f64, crowd: Crowd, watch: Option<Watch>) -> Result<OpenLoop> {
        let preferred = |place| Place { realtime: self.results.realtime, ..place };
        let running = Running::start(server, preferred(Place::SERVER))?;
        let (processes, open_rate, secs) = (server.workers, server.open_rate, self.plan.open_secs);
        let foreign = Foreign::now();
        let shared = Shared { crowd, processes, rate, open_rate, secs, watch };
        let mut report = shared.run(running.addr, running.pid(), preferred(Place::LOAD))?;
        report.foreign_percent = Foreign::now().percent_since(foreign);
        Ok(report)
    }

    fn open_args(&self, rate: f64, args: &[&str]) -> Vec<String> {
        let secs =
            ["--rate", &rate.to_string(), "--secs", &self.plan.open_secs.to_string()].map(str::to_owned);
        secs.into_iter().chain(args.iter().map(|&arg| arg.to_owned())).collect()
    }
}
