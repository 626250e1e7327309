//! The limits and timings of the broker core, validated by `config`.

use super::token::Secrets;

/// When a dispatch may be answered `true`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// The runner's process has read the run: its FIN arrived, and no byte of ours is unacknowledged.
    Read,
    /// The runner's kernel has acknowledged every byte.
    Ack,
    /// Our kernel took every byte.
    Write,
}

/// Which of a key's matchable polls gets the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchOrder {
    /// The poll with the most time left, so that idle runners reach their timeout.
    Newest,
    /// The poll that has waited longest: round robin through the fleet.
    Oldest,
}

/// What to do about deployment tokens, as in Trigger.dev's supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenMode {
    /// Do not verify tokens; read the deployment that a token names.
    Off,
    /// Verify tokens and count invalid ones, but hold their polls.
    Log,
    /// Refuse bare ids and invalid tokens.
    Enforce,
}

/// How many connections may be open. Each worker has its own part, so that the connections of some workers leave
/// room on the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// Per worker.
    pub own: usize,
    /// Shared by all workers.
    pub common: usize,
}

impl ConnectionLimit {
    /// `connections_max` in total, half of them divided among `workers`.
    pub const fn of(connections_max: usize, workers: usize) -> ConnectionLimit {
        let own = connections_max / 2 / workers;
        ConnectionLimit { own, common: connections_max - own * workers }
    }

    /// Limits each worker to `worker_max` connections, by moving connections from the common part to the
    /// workers' own parts. The division may lose up to one connection per worker.
    pub const fn within(self, worker_max: usize, workers: usize) -> ConnectionLimit {
        let connections_max = self.own * workers + self.common;
        if self.own + self.common <= worker_max || workers < 2 {
            return self;
        }
        // If one worker uses the whole common part, the others still have their own parts.
        let common = (worker_max * workers).saturating_sub(connections_max) / (workers - 1);
        ConnectionLimit { own: (connections_max - common) / workers, common }
    }
}

/// The broker core's limits and timings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Sent by `/connect`: how long a runner holds one poll.
    pub connection_timeout_ms: u64,
    /// Sent by `/connect`: how long an idle runner keeps polling before it exits.
    pub keepalive_ms: u64,
    pub connections: ConnectionLimit,
    /// Keys remembered per worker.
    pub keys_max: usize,
    pub body_bytes_max: usize,
    /// Request line and header fields.
    pub head_bytes_max: usize,
    /// From a request's first byte to its last.
    pub request_timeout_ms: u64,
    /// For a connection between two requests.
    pub idle_timeout_ms: u64,
    /// For a connection that has not sent a byte yet.
    pub preconnect_timeout_ms: u64,
    /// For a response, other than a run, that its peer does not read.
    pub write_timeout_ms: u64,
    pub match_order: MatchOrder,
    pub confirm: Confirm,
    /// A claimed poll is released if its peer's kernel acknowledges nothing for this long.
    pub ack_timeout_ms: u64,
    /// A claimed poll is released if its peer's process has not read the acknowledged run for this long (`read`).
    pub read_timeout_ms: u64,
    /// A dispatch is always answered within this time.
    pub dispatch_timeout_ms: u64,
    /// Polls tried per dispatch.
    pub attempts_max: u8,
    /// A poll is parked this long before its timeout.
    pub guard_ms: u64,
    /// A shutdown closes the held polls one by one over this time.
    pub shutdown_time_ms: u64,
    /// How long the peer may take to read a refusal and close, after our FIN.
    pub linger_ms: u64,
    /// Bytes to buffer from a peer that sends more before its request is answered. At this limit, reading pauses.
    pub pipeline_bytes_max: usize,
    /// Emit all events.
    pub events: bool,
    /// Unless `Off`, the driver must report the time with [`super::io::Input::WallClock`] before every batch of
    /// inputs.
    pub token_mode: TokenMode,
    pub token_secrets: Secrets,
    /// Verified tokens remembered per worker.
    pub tokens_max: usize,
    /// Dispatches are accepted on the runner side too.
    pub dispatch_on_runner_side: bool,
    /// Accept dispatches from every address; otherwise only if [`super::io::Peer`] allows it.
    pub dispatch_from_anyone: bool,
    /// Open connections of one address on all workers together; `u32::MAX`: unlimited.
    pub connections_per_address_max: u32,
    /// Held polls of one key per worker; `usize::MAX`: unlimited.
    pub polls_per_key_max: usize,
    /// Held polls of one deployment per worker, over all versions and machine sizes; `usize::MAX`: unlimited.
    pub polls_per_deployment_max: usize,
    /// Bytes in flight on all workers together: incomplete requests, pipelined bytes, and runs that are not
    /// delivered yet.
    pub buffered_bytes_max: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_worker_exceeds_its_limit_and_few_connections_are_lost() {
        for workers in 1..=64 {
            for worker_max in [1, 2, 7, 100, 19_888] {
                for connections_max in
                    (workers..=worker_max * workers).step_by(1 + worker_max * workers / 500)
                {
                    let limit = ConnectionLimit::of(connections_max, workers).within(worker_max, workers);
                    let ConnectionLimit { own, common } = limit;
                    let case =
                        format!("{connections_max} of {workers} workers, {worker_max} each: {limit:?}");
                    assert!(own + common <= worker_max, "{case}");
                    assert!(own * workers + common <= connections_max, "{case}");
                    assert!(own * workers + common + workers > connections_max, "{case}");
                }
            }
        }
    }
}
