//! The invariants between two turns of a worker.

use super::super::net::{Net, Us};
use super::{Conn, Doing, Oracle, TICK_US};
use pilotlight::broker::report::{Counters, KeyReport};

/// A worker's own figures.
pub struct SelfView<'a> {
    pub waiting: usize,
    pub connections: usize,
    pub buffered_bytes: usize,
    pub next_deadline: Option<Us>,
    pub counters: &'a Counters,
}

impl Oracle {
    /// Compares a worker's figures, at its time `now`, with its inputs and outputs.
    pub fn check_worker(&mut self, worker: usize, own: &SelfView<'_>, now: Us) {
        self.workers[worker].now = now;
        let (mut held, mut garbage, mut allowed) = (0, 0, 0);
        let (mut late, mut first_due) = (None, Us::MAX);
        for (link, conn) in self.open_on(worker) {
            held += usize::from(matches!(conn.doing, Doing::Held { .. } | Doing::Claimed { .. }));
            garbage += usize::from(matches!(conn.doing, Doing::Garbage | Doing::Refused { .. }));
            allowed += self.buffers_allowed(conn);
            if let Some(due) = self.due(conn) {
                first_due = first_due.min(due);
                if now >= due + TICK_US {
                    late.get_or_insert((link, conn.doing, now - due));
                }
            }
        }
        let open = self.open[worker].len();
        let view = &self.workers[worker];
        let counted = (view.warm, view.cold, view.attempts);
        if let Some((link, doing, by)) = late {
            self.fail(format!("link {link} is still {doing:?}, {by} us after it was due"));
        }
        if first_due != Us::MAX && own.next_deadline.is_none_or(|next| next > first_due + TICK_US) {
            let next = own.next_deadline;
            self.fail(format!(
                "worker {worker} would block until {next:?}, and a timer is due at {first_due}"
            ));
        }
        if own.connections != open {
            self.fail(format!(
                "worker {worker} counts {} connections, and there are {open}",
                own.connections
            ));
        }
        let everywhere: usize = self.open.iter().map(Vec::len).sum();
        let limit = self.settings.connections;
        if everywhere > limit.common + limit.own * self.open.len() {
            self.fail(format!("{everywhere} connections are open, above the limit"));
        }
        if own.waiting < held || own.waiting > held + garbage {
            self.fail(format!("worker {worker} counts {} polls, and there are {held}", own.waiting));
        }
        if own.buffered_bytes > allowed {
            self.fail(format!(
                "worker {worker} owns {} bytes of buffers, and needs {allowed} at most",
                own.buffered_bytes
            ));
        }
        let counters = own.counters;
        if (counters.warm, counters.answered_false(), counters.attempts) != counted {
            self.fail(format!("worker {worker} counts {counters:?}; warm, cold, attempts were {counted:?}"));
        }
    }

    /// When the worker must act on this connection.
    fn due(&self, conn: &Conn) -> Option<Us> {
        let settings = &self.settings;
        let after = |ms: u64| Some(conn.since + ms * 1_000);
        match conn.doing {
            Doing::Garbage | Doing::Closing => None,
            Doing::Held { .. } => {
                let expiry = conn.since + (settings.connection_timeout_ms + settings.guard_ms) * 1_000;
                let shutdown = self.workers[conn.worker].shutdown_began;
                let end =
                    shutdown.map(|began| (began + settings.shutdown_time_ms * 1_000, began < conn.since));
                match end {
                    // A connection that arrived during the shutdown must not be held.
                    Some((_, true)) => Some(conn.since.saturating_sub(TICK_US)),
                    Some((at, false)) => Some(expiry.min(at)),
                    None => Some(expiry),
                }
            }
            Doing::Claimed { attempt } => {
                let attempt = &self.attempts[attempt];
                let patience = settings.ack_timeout_ms.max(settings.read_timeout_ms);
                let deadline = self.deadline(attempt.run);
                let due = deadline.min(attempt.progress_at + patience * 1_000);
                Some(if attempt.probing { deadline } else { due })
            }
            Doing::Awaiting { .. } => after(settings.dispatch_timeout_ms),
            Doing::Answering => after(settings.write_timeout_ms),
            Doing::Refused { sent: false } => after(settings.write_timeout_ms),
            Doing::Refused { sent: true } => after(settings.linger_ms),
            Doing::Nothing if conn.interim => None,
            Doing::Nothing if conn.received == 0 => after(settings.preconnect_timeout_ms),
            Doing::Nothing => match conn.begun {
                Some(begun) => Some(begun + settings.request_timeout_ms * 1_000),
                None => after(settings.idle_timeout_ms),
            },
        }
    }

    /// How many bytes a connection may buffer: none while it has sent only the request that is being
    /// answered.
    fn buffers_allowed(&self, conn: &Conn) -> usize {
        const ONE_READ: usize = 64 * 1024;
        let settings = &self.settings;
        // A vector doubles when it grows.
        let pipelined = 2 * (settings.pipeline_bytes_max.max(settings.head_bytes_max) + ONE_READ);
        let body = 2 * settings.body_bytes_max.max(ONE_READ);
        let used = conn.next.checked_sub(1).map_or(0, |last| conn.script[last].end);
        match conn.doing {
            Doing::Garbage | Doing::Refused { .. } | Doing::Closing => pipelined + body,
            _ if conn.received == used => 0,
            Doing::Nothing => pipelined + body,
            _ => pipelined,
        }
    }

    /// Checks a connection that the worker does not read from.
    pub fn check_paused(&mut self, link: usize) {
        let conn = self.conn(link);
        if conn.doing == Doing::Nothing && !conn.interim {
            self.fail(format!("link {link} is paused although its request is incomplete"));
        }
    }

    /// Keys of `worker` with a poll that other workers must be able to find.
    pub fn keys_to_be_found(&self, worker: usize, net: &Net) -> Vec<usize> {
        let now = self.workers[worker].now;
        let keys = 0..self.deployments.len();
        keys.filter(|key| self.offerable(worker, *key, now, net).next().is_some()).collect()
    }

    /// Checks how many polls of `key` a worker reports.
    pub fn check_key(&mut self, worker: usize, key: usize, report: Option<&KeyReport>, net: &Net) {
        let now = self.workers[worker].now;
        let at_least = self.offerable(worker, key, now, net).count();
        let of_key = |conn: &Conn| match conn.doing {
            Doing::Held { key: held, .. } => held == key,
            Doing::Claimed { attempt } => self.runs[self.attempts[attempt].run].key == key,
            _ => false,
        };
        let at_most = self.open_on(worker).filter(|(_, conn)| of_key(conn)).count();
        let own = report.map_or(0, |report| report.waiting as usize);
        if own < at_least || own > at_most {
            self.fail(format!(
                "worker {worker} reports {own} polls of key {key}; {at_least} to {at_most} wait"
            ));
        }
    }
}
