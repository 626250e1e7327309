//! Every limit of the core, validated by `config` before it gets here.

use super::token::Secrets;

/// When a dispatch may be answered `true`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// The runner's process has read the run: its FIN, with nothing of ours unacknowledged.
    Read,
    /// The runner's kernel has acknowledged every byte.
    Ack,
    /// Our kernel took every byte. What the incumbent means by "warm started".
    Write,
}

/// Which of a key's waiting polls gets the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchOrder {
    /// The poll with the most time left; idle runners age out by themselves.
    Newest,
    /// Round robin through the fleet.
    Oldest,
}

/// What is done about deployment tokens, as Trigger.dev's supervisor has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenMode {
    /// Not verified; a token is read for the deployment that it names.
    Off,
    /// Verified, and held all the same: what `Enforce` would refuse is counted.
    Log,
    /// Verified: bare ids and bad tokens are refused.
    Enforce,
}

/// How many connections may be open. A part is each worker's own, so that a crowd that some workers have
/// taken in leaves room on the others: a worker makes room only of what is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// Each worker's own.
    pub own: usize,
    /// What is left, for all workers together.
    pub common: usize,
}

impl ConnectionLimit {
    /// `connections_max` in all, half of them divided among `workers`.
    pub const fn of(connections_max: usize, workers: usize) -> ConnectionLimit {
        let own = connections_max / 2 / workers;
        ConnectionLimit { own, common: connections_max - own * workers }
    }

    /// The same where no worker may have more than `core_max`: of what is common, as much becomes the workers' own as
    /// it takes. Up to a connection per core may be lost in the division.
    pub const fn within(self, core_max: usize, workers: usize) -> ConnectionLimit {
        let connections_max = self.own * workers + self.common;
        if self.own + self.common <= core_max || workers < 2 {
            return self;
        }
        // If a worker takes all that is common, the others still have room for what is their own.
        let common = (core_max * workers).saturating_sub(connections_max) / (workers - 1);
        ConnectionLimit { own: (connections_max - common) / workers, common }
    }
}

/// The core's limits and timings. Times in milliseconds, sizes in bytes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Handed out by `/connect`: how long a client holds one poll.
    pub connection_timeout_ms: u64,
    /// Handed out by `/connect`: how long a client keeps polling before it exits.
    pub keepalive_ms: u64,
    /// Open connections.
    pub connections: ConnectionLimit,
    /// Distinct keys (deployment, version, cpu, memory) remembered on this worker.
    pub keys_max: usize,
    /// A request's body.
    pub body_bytes_max: usize,
    /// A request's head (request line and header fields).
    pub head_bytes_max: usize,
    /// From a request's first byte to its last.
    pub request_timeout_ms: u64,
    /// A kept-alive connection that has served a request and carries none.
    pub idle_timeout_ms: u64,
    /// A connection that has not sent a byte yet.
    pub preconnect_timeout_ms: u64,
    /// A response (other than a claimed poll's) that its peer does not read.
    pub write_timeout_ms: u64,
    /// Which waiting poll goes first.
    pub match_order: MatchOrder,
    /// What "delivered" means.
    pub confirm: Confirm,
    /// A claimed poll whose peer's kernel is silent is given up after this.
    pub ack_timeout_ms: u64,
    /// A claimed poll whose peer's kernel acknowledged but whose process has not read (confirm `read`).
    pub read_timeout_ms: u64,
    /// A dispatch is answered within this, whatever happens.
    pub dispatch_timeout_ms: u64,
    /// Polls tried for one dispatch.
    pub attempts_max: u8,
    /// A poll is not offered a run in its last moments.
    pub guard_ms: u64,
    /// On shutdown the held polls are closed one by one over this time.
    pub shutdown_time_ms: u64,
    /// After a refusal and its FIN: how long the peer may take to read it and close.
    pub linger_ms: u64,
    /// Bytes kept from a peer that sends on while its request is not answered; reading pauses there.
    pub pipeline_bytes_max: usize,
    /// Produce events (somebody watches).
    pub events: bool,
    /// What is done about deployment tokens. Other than `Off`: tell the core the wall clock's time with
    /// [`super::io::Input::WallClock`] before every batch of inputs.
    pub token_mode: TokenMode,
    /// What they are signed with.
    pub token_secrets: Secrets,
    /// Verified tokens remembered on this worker.
    pub tokens_max: usize,
    /// `POST /warm-start` is served on the runner side too.
    pub dispatch_on_runner_side: bool,
    /// A dispatch is taken from whoever reaches a side that serves them; else only from those of whom
    /// [`super::io::Peer`] says so.
    pub dispatch_from_anyone: bool,
    /// Open connections of one address on all workers together; `u32::MAX`: no bound of its own.
    pub connections_per_address_max: u32,
    /// Held polls of one key on this worker; `usize::MAX`: no bound of its own.
    pub polls_per_key_max: usize,
    /// Held polls of one deployment on this worker, whatever their version and machine; `usize::MAX`: no
    /// bound of its own.
    pub polls_per_deployment_max: usize,
    /// Bytes in flight on all workers together: incomplete requests, what is pipelined behind others, and
    /// runs that are not delivered yet.
    pub buffered_bytes_max: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_core_has_more_than_it_can_and_few_connections_are_lost() {
        for workers in 1..=64 {
            for core_max in [1, 2, 7, 100, 19_888] {
                for connections_max in (workers..=core_max * workers).step_by(1 + core_max * workers / 500) {
                    let limit = ConnectionLimit::of(connections_max, workers).within(core_max, workers);
                    let ConnectionLimit { own, common } = limit;
                    let case = format!("{connections_max} of {workers} workers, {core_max} each: {limit:?}");
                    assert!(own + common <= core_max, "{case}");
                    assert!(own * workers + common <= connections_max, "{case}");
                    assert!(own * workers + common + workers > connections_max, "{case}");
                }
            }
        }
    }
}
