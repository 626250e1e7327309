//! The targets. Each figure is a ratio or a count from one run.

use crate::results::{Results, cpu_us_per_match};

pub struct Target {
    pub figure: String,
    pub unit: &'static str,
    pub must: f64,
    pub aim: f64,
    pub measured: Option<f64>,
    /// More is better only for the lead over a peer.
    pub more_is_better: bool,
}

impl Target {
    fn at_most(figure: &str, unit: &'static str, must: f64, aim: f64, measured: Option<f64>) -> Self {
        Target { figure: figure.to_owned(), unit, must, aim, measured, more_is_better: false }
    }

    fn at_least(figure: &str, must: f64, aim: f64, measured: Option<f64>) -> Self {
        Target { figure: figure.to_owned(), unit: "", must, aim, measured, more_is_better: true }
    }

    pub fn rating(&self) -> &'static str {
        let meets =
            |bound: f64| self.measured.map(|m| if self.more_is_better { m >= bound } else { m <= bound });
        match (meets(self.must), meets(self.aim)) {
            (None, _) => "not measured",
            (_, Some(true)) => "aim met",
            (Some(true), _) => "must met",
            _ => "**missed**",
        }
    }
}

pub fn targets(results: &Results) -> Vec<Target> {
    let cpu = |of: &str, over: &str| Some(results.cpu_us(of)? / results.cpu_us(over)?);
    let p99 =
        |of: &str, over: &str| Some(results.p99_to_runner_us(of, 50)? / results.p99_to_runner_us(over, 50)?);
    let calm = if results.is_calm() { ", of the typical thousand" } else { "" };
    let p99_at_its_rate = |of: &str| results.p99_over_floor(of);
    let crowd = crowd(results);
    let syscalls = |of: &str| Some(results.syscalls.get(of)?.per_match);
    let binary =
        results.servers.iter().find(|s| s.name.starts_with("pilotlight")).and_then(|s| s.binary_bytes);
    let listening = results.window_median("pilotlight-epoll-ack", |window| window.listening_ms);
    vec![
        Target::at_most(
            "CPU per match over floor-epoll: epoll, `write`",
            "",
            1.25,
            1.10,
            cpu("pilotlight-epoll-write", "floor-epoll"),
        ),
        Target::at_most("the same: epoll, `ack`", "", 1.60, 1.35, cpu("pilotlight-epoll-ack", "floor-epoll")),
        Target::at_most(
            "the same: io_uring, `write`",
            "",
            1.20,
            1.00,
            cpu("pilotlight-uring-write", "floor-epoll"),
        ),
        Target::at_most(
            "the same: io_uring, `ack`",
            "",
            1.50,
            1.25,
            cpu("pilotlight-uring-ack", "floor-epoll"),
        ),
        Target::at_most(
            "epoll, `read`, over floor-epoll-close",
            "",
            1.30,
            1.10,
            cpu("pilotlight-epoll-read", "floor-epoll-close"),
        ),
        Target::at_least(
            "bun-serve's CPU per match over ours (epoll, `ack`)",
            2.0,
            2.5,
            cpu("bun-serve", "pilotlight-epoll-ack"),
        ),
        Target::at_least(
            "bun-serve-close's over ours (epoll, `read`)",
            2.0,
            2.5,
            cpu("bun-serve-close", "pilotlight-epoll-read"),
        ),
        Target::at_least(
            "the same: io_uring, which `auto` takes for one worker",
            2.0,
            2.5,
            cpu("bun-serve-close", "pilotlight-uring-read"),
        ),
        Target::at_most(
            "system calls per match: epoll, `write`",
            "",
            4.3,
            4.1,
            syscalls("pilotlight-epoll-write"),
        ),
        Target::at_most("the same: epoll, `ack`", "", 6.3, 5.3, syscalls("pilotlight-epoll-ack")),
        Target::at_most("the same: io_uring, `ack`", "", 1.0, 0.3, syscalls("pilotlight-uring-ack")),
        Target::at_most(
            "user memory per held idle poll: epoll",
            "B",
            1024.0,
            512.0,
            results.bytes_per_held("pilotlight-epoll-ack"),
        ),
        Target::at_most(
            "the same: io_uring",
            "B",
            1024.0,
            512.0,
            results.bytes_per_held("pilotlight-uring-ack"),
        ),
        Target::at_most(&crowd, "", 1.3, 1.1, crowding(results, "pilotlight-epoll-ack")),
        Target::at_most(
            "two workers, dispatches on the other core, over one worker",
            "",
            1.6,
            1.3,
            crossing(results),
        ),
        Target::at_most(
            &format!("p99 dispatch to runner at 50 % of capacity{calm}, over floor-epoll's: epoll, `write`"),
            "",
            2.0,
            1.3,
            p99("pilotlight-epoll-write", "floor-epoll"),
        ),
        Target::at_most("the same: epoll, `ack`", "", 2.0, 1.3, p99("pilotlight-epoll-ack", "floor-epoll")),
        Target::at_most(
            "the same: io_uring, `ack`",
            "",
            2.0,
            1.3,
            p99("pilotlight-uring-ack", "floor-epoll"),
        ),
        Target::at_most(
            "the same: epoll, `read`, over floor-epoll-close's",
            "",
            2.0,
            1.3,
            p99("pilotlight-epoll-read", "floor-epoll-close"),
        ),
        Target::at_most(
            "the same: io_uring, `read`",
            "",
            2.0,
            1.3,
            p99("pilotlight-uring-read", "floor-epoll-close"),
        ),
        Target::at_most(
            &format!(
                "p99 dispatch to runner at 50 % of our capacity{calm}, over floor-epoll's at that rate: epoll, `write`"
            ),
            "",
            2.0,
            1.3,
            p99_at_its_rate("pilotlight-epoll-write"),
        ),
        Target::at_most("the same: epoll, `ack`", "", 2.0, 1.3, p99_at_its_rate("pilotlight-epoll-ack")),
        Target::at_most("the same: io_uring, `ack`", "", 2.0, 1.3, p99_at_its_rate("pilotlight-uring-ack")),
        Target::at_most(
            "the same: epoll, `read`, over floor-epoll-close's",
            "",
            2.0,
            1.3,
            p99_at_its_rate("pilotlight-epoll-read"),
        ),
        Target::at_most("the same: io_uring, `read`", "", 2.0, 1.3, p99_at_its_rate("pilotlight-uring-read")),
        Target::at_most("start to listening", "ms", 20.0, 5.0, listening),
        Target::at_most("binary", "MiB", 8.0, 4.0, binary.map(|bytes| bytes as f64 / 1_048_576.0)),
    ]
}

/// The name of the figure that compares many polls and keys with few.
fn crowd(results: &Results) -> String {
    let keys = results.keys.get("pilotlight-epoll-ack");
    let (many, few) = keys
        .and_then(|keys| Some((keys.many.first()?, keys.one.first()?)))
        .map_or(((100_000, 10_000), (500, 1)), |(many, few)| {
            ((many.counts.runners, many.counts.keys), (few.counts.runners, few.counts.keys))
        });
    let few_keys = if few.1 == 1 { "one".to_owned() } else { few.1.to_string() };
    format!("CPU per match, {} held over {} keys, over {} held on {few_keys}", many.0, many.1, few.0)
}

/// CPU per match with many polls and keys, divided by that with few.
pub fn crowding(results: &Results, server: &str) -> Option<f64> {
    let keys = results.keys.get(server)?;
    Some(cpu_us_per_match(&keys.many)? / cpu_us_per_match(&keys.one)?)
}

fn crossing(results: &Results) -> Option<f64> {
    let workers = results.workers.as_ref()?;
    Some(cpu_us_per_match(&workers.apart)? / cpu_us_per_match(&workers.one)?)
}
