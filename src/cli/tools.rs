//! The flags of `pilotlight bench` and `pilotlight top`, as typed.

use crate::config::values::{Millis, Rate, Within};
use clap::{Args, ValueEnum};

pub(super) const BENCH_EXAMPLES: &str = "\
Examples:
  A broker on this machine, everything at its default:
    pilotlight bench
  With a dispatch side of its own, at a thousand runs a second:
    pilotlight bench http://127.0.0.1:8040 --dispatch-url http://127.0.0.1:8041 --rate 1000 --for 30s
  How runs wait when runners work a while between two of them:
    pilotlight bench --runners 400 --work 2s

It brings runners and supervisors of its own, of deployments that nobody else has: no real runner gets its
runs and none of its runners gets a real one. Yet it takes the broker's time from them, fills its metrics
and its list of recent dispatches, and can make alerts fire. It therefore loads loopback addresses only,
unless told otherwise (--allow-remote).

Times count from the moment at which a run was due, not from when it was sent: a broker that stalls is
charged for every run that had to wait meanwhile.

Exit codes:
  0  measured; every run was answered, none was lost or doubled
  1  something was lost, doubled or not answered, or nothing could be measured
  2  a flag cannot be read, or the broker is on another machine";

/// The flags of `pilotlight bench`, as typed.
#[derive(Args, Clone, Debug)]
pub struct BenchFlags {
    /// The runner side (--listen) of a running broker
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8040")]
    pub url: String,
    /// Its dispatch side (--dispatch-listen); the runner side if not given
    #[arg(long, env = "PILOTLIGHT_BENCH_DISPATCH_URL", value_name = "URL")]
    pub dispatch_url: Option<String>,
    /// Runs per second, whatever the broker does
    #[arg(long, env = "PILOTLIGHT_BENCH_RATE", value_name = "NUMBER", default_value = "200")]
    pub rate: Rate,
    /// How long to measure; at most an hour
    #[arg(long = "for", env = "PILOTLIGHT_BENCH_FOR", value_name = "TIME", default_value = "10s", value_parser = bench_time)]
    pub time: Millis,
    /// How long to dispatch before that, uncounted
    #[arg(long, env = "PILOTLIGHT_BENCH_WARM_UP", value_name = "TIME", default_value = "1s", value_parser = bench_time)]
    pub warm_up: Millis,
    /// Runners that wait, at most 50000
    #[arg(long, env = "PILOTLIGHT_BENCH_RUNNERS", value_name = "COUNT", default_value = "100")]
    pub runners: Within<1, 50_000>,
    /// Supervisors: runs that can be on their way to an answer at once
    #[arg(long, env = "PILOTLIGHT_BENCH_SUPERVISORS", value_name = "COUNT", default_value = "20")]
    pub supervisors: Within<1, 10_000>,
    /// Deployments that runners and runs are spread over
    #[arg(long, env = "PILOTLIGHT_BENCH_KEYS", value_name = "COUNT", default_value = "4")]
    pub keys: Within<1, 50_000>,
    /// A runner hangs up and polls again after this; by default what /connect tells runners
    #[arg(long, env = "PILOTLIGHT_BENCH_POLL_TIMEOUT", value_name = "TIME", value_parser = bench_time)]
    pub poll_timeout: Option<Millis>,
    /// How long a runner works on a run before it polls again
    #[arg(long, env = "PILOTLIGHT_BENCH_WORK", value_name = "TIME", default_value = "0s")]
    pub work: Millis,
    /// Size of a dispatch's body; real ones have 1200 to 2500 bytes
    #[arg(long, env = "PILOTLIGHT_BENCH_MESSAGE_BYTES", value_name = "BYTES", default_value = "1500")]
    pub message_bytes: Within<300, 32_768>,
    /// Load a broker that is not on this machine
    ///
    /// It gets nobody's runs and gives nobody any, and takes processor time, connections and lines of the log from real ones all the same.
    #[arg(long, env = "PILOTLIGHT_BENCH_ALLOW_REMOTE")]
    pub allow_remote: bool,
}

const BENCH_TIME_MS_MAX: u64 = 3_600_000;

fn bench_time(typed: &str) -> Result<Millis, String> {
    let time: Millis = typed.parse()?;
    match time.0 {
        0..=BENCH_TIME_MS_MAX => Ok(time),
        _ => Err("is out of range. Use a duration of at most 1h.".to_owned()),
    }
}

pub(super) const TOP_EXAMPLES: &str = "\
Examples:
  The broker on this machine:
    pilotlight top
  One frame, for a log or a script:
    pilotlight top --once

Keys:
  q, Esc, Ctrl-C  leave           space  hold what is shown
  /               search          s, r   sort by another column, turn the order round
  up, down        scroll          tab    scroll the runs instead of the pools

Exit codes:
  0  left by a key, or the frame was printed
  1  --once found no broker
  2  a flag cannot be read";

/// The flags of `pilotlight top`, as typed.
#[derive(Args, Clone, Debug)]
pub struct TopFlags {
    /// The running broker's admin side; unix:PATH for a Unix domain socket
    #[arg(long, value_name = "URL", env = "PILOTLIGHT_ADMIN", default_value = "http://127.0.0.1:8042")]
    pub admin: String,
    /// Between two looks, from 250ms up
    #[arg(long, env = "PILOTLIGHT_TOP_EVERY", value_name = "TIME", default_value = "1s", value_parser = look_interval)]
    pub every: Millis,
    /// Print one frame and end; so does an output that is no terminal
    #[arg(long, env = "PILOTLIGHT_TOP_ONCE")]
    pub once: bool,
    /// What pools are sorted by
    #[arg(long, env = "PILOTLIGHT_TOP_SORT", value_name = "COLUMN", default_value = "waiting")]
    pub sort: PoolOrder,
    /// Show only what contains this
    #[arg(long, env = "PILOTLIGHT_TOP_SEARCH", value_name = "TEXT")]
    pub search: Option<String>,
}

/// The column that pools are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PoolOrder {
    /// Runners that wait.
    #[default]
    Waiting,
    /// Dispatches answered true.
    Hits,
    /// Dispatches answered false.
    Misses,
    /// How long the oldest runner has waited.
    Oldest,
    /// The deployment's name.
    Name,
}

const LOOK_MS_MIN: u64 = 250;

fn look_interval(typed: &str) -> Result<Millis, String> {
    let time: Millis = typed.parse()?;
    match time.0 {
        LOOK_MS_MIN..=60_000 => Ok(time),
        _ => Err("is out of range. Use a duration from 250ms to 1m.".to_owned()),
    }
}
