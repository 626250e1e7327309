//! The flags of `pilotlight bench`.

use crate::config::values::{Millis, Rate, Within};
use clap::Args;

pub const EXAMPLES: &str = "\
Examples:
  A broker on this machine, with default settings:
    pilotlight bench
  With a dispatch side of its own, at 1,000 runs/s:
    pilotlight bench http://127.0.0.1:8040 --dispatch-url http://127.0.0.1:8041 --rate 1000 --for 30s
  How runs wait when runners work between two runs:
    pilotlight bench --runners 400 --work 2s

The load has its own runners, supervisors and deployments: no real runner gets its runs, and its runners
get no real run. It does take the broker's processor time from real runs, fills its metrics and its list
of recent dispatches, and can make alerts fire. It therefore loads loopback addresses only, unless you
add --allow-remote.

Times count from the moment at which a run was due, not from when it was sent: a broker that stalls is
charged for every run that had to wait.

Exit codes:
  0  measured; every run was answered, none was lost or doubled
  1  a run was lost, doubled or not answered, or nothing could be measured
  2  a flag is invalid, or the broker is on another machine";

#[derive(Args, Clone, Debug)]
pub struct BenchFlags {
    /// The runner side (--listen) of a running broker
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8040")]
    pub url: String,
    /// The broker's dispatch side (--dispatch-listen) (default: the runner side)
    #[arg(long, env = "PILOTLIGHT_BENCH_DISPATCH_URL", value_name = "URL")]
    pub dispatch_url: Option<String>,
    /// Runs per second; the load keeps this rate even if the broker does not
    #[arg(long, env = "PILOTLIGHT_BENCH_RATE", value_name = "NUMBER", default_value = "200")]
    pub rate: Rate,
    /// How long to measure; at most 1h
    #[arg(long = "for", env = "PILOTLIGHT_BENCH_FOR", value_name = "DURATION", default_value = "10s", value_parser = at_most_an_hour)]
    pub time: Millis,
    /// How long to dispatch before the measurement begins; at most 1h
    #[arg(long, env = "PILOTLIGHT_BENCH_WARM_UP", value_name = "DURATION", default_value = "1s", value_parser = at_most_an_hour)]
    pub warm_up: Millis,
    /// Runners that poll; at most 50000
    #[arg(long, env = "PILOTLIGHT_BENCH_RUNNERS", value_name = "COUNT", default_value = "100")]
    pub runners: Within<1, 50_000>,
    /// Supervisors: dispatches that can wait for an answer at the same time; at most 10000
    #[arg(long, env = "PILOTLIGHT_BENCH_SUPERVISORS", value_name = "COUNT", default_value = "20")]
    pub supervisors: Within<1, 10_000>,
    /// Deployments of the runners and runs; at most 50000
    #[arg(long, env = "PILOTLIGHT_BENCH_KEYS", value_name = "COUNT", default_value = "4")]
    pub keys: Within<1, 50_000>,
    /// A runner ends its poll and polls again after this time (default: what /connect tells runners)
    #[arg(long, env = "PILOTLIGHT_BENCH_POLL_TIMEOUT", value_name = "DURATION", value_parser = at_most_an_hour)]
    pub poll_timeout: Option<Millis>,
    /// How long a runner executes a run before it polls again
    #[arg(long, env = "PILOTLIGHT_BENCH_WORK", value_name = "DURATION", default_value = "0s")]
    pub work: Millis,
    /// Size of a dispatch's body; real ones have 1200 to 2500 bytes
    #[arg(long, env = "PILOTLIGHT_BENCH_MESSAGE_BYTES", value_name = "BYTES", default_value = "1500")]
    pub message_bytes: Within<300, 32_768>,
    /// Load a broker on another machine
    ///
    /// No real run or runner takes part, but the load takes processor time, connections and log lines from real runs.
    #[arg(long, env = "PILOTLIGHT_BENCH_ALLOW_REMOTE")]
    pub allow_remote: bool,
}

const TIME_MS_MAX: u64 = 3_600_000;

fn at_most_an_hour(typed: &str) -> Result<Millis, String> {
    let time: Millis = typed.parse()?;
    if time.0 <= TIME_MS_MAX {
        Ok(time)
    } else {
        Err("is out of range. Use a duration of at most 1h.".to_owned())
    }
}
