//! The counters of a worker. Each is declared once: field, `/status` name, metric, label and help.

/// One metric, whose members differ in a label.
#[derive(Debug)]
pub struct Family {
    /// The metric without `pilotlight_`, and without the unit and `_total` that its encoder appends.
    pub name: &'static str,
    /// The help text in `/metrics`.
    pub help: &'static str,
    pub unit: CounterUnit,
    /// The label in which the members differ; empty if there is only one.
    pub label: &'static str,
    /// In the order of their declaration.
    pub members: &'static [Member],
}

/// One number of a [`Family`].
#[derive(Debug)]
pub struct Member {
    /// The field's name, also in `/status`; `None` for a sum of others.
    pub field: Option<&'static str>,
    /// The value of the family's label.
    pub value: &'static str,
    pub of: fn(&Counters) -> u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterUnit {
    Count,
    Bytes,
}

macro_rules! counters {
    ($(
        $name:literal $unit:ident $help:literal $($label:literal)? {
            $($(#[$doc:meta])* $field:ident $($value:literal)?;)*
            $(+ $sum:literal $of:expr;)*
        }
    )*) => {
        /// The counters of one worker since its start. Plain integers, because they have one writer.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($($(#[$doc])* pub $field: u64,)*)*
        }

        /// All counters, as metrics.
        pub const FAMILIES: &[Family] = &[$(Family {
            name: $name,
            help: $help,
            unit: CounterUnit::$unit,
            label: concat!($($label)?),
            members: &[
                $(Member { field: Some(stringify!($field)), value: concat!($($value)?), of: |c| c.$field },)*
                $(Member { field: None, value: $sum, of: $of },)*
            ],
        },)*];

        #[cfg(test)]
        impl Counters {
            /// Counters with distinct values, from `first` on.
            pub fn distinct(first: u64) -> Counters {
                let mut next = first..;
                Counters { $($($field: next.next().unwrap_or_default(),)*)* }
            }
        }
    };
}

counters! {
    "dispatches" Count "Dispatches by outcome: warm (answered true), cold (answered false: no runner could be offered the run; pilotlight_cold_total gives the reason), unconfirmed (answered false: at least one runner was offered the run, and none is proven to have received it), rejected (answered 4xx: not a well-formed dispatch)." "outcome" {
        /// Dispatches answered true.
        warm "warm";
        /// Dispatches answered false after at least one failed delivery attempt.
        unconfirmed "unconfirmed";
        /// Dispatches answered 4xx.
        dispatches_rejected "rejected";
        + "cold" |c| c.cold();
    }
    "cold" Count "Cold dispatches by reason: no_runner (no runner of the deployment waits), other_version (runners of the deployment wait with another version), other_machine_size (runners of the deployment and version wait with another machine size), parked (all waiting runners are too close to their timeout), cordoned (a cordon covers the deployment, or the nodes of the waiting runners), shutting_down, key_limit (--max-keys), bytes_limit (--max-buffered). A worker knows the runners of other workers only by a hash: with n waiting deployments, about n in 4096 no_runner dispatches count as other_version." "reason" {
        /// No runner of the deployment waits.
        cold_no_runner "no_runner";
        /// Runners of the deployment wait with another version.
        cold_other_version "other_version";
        /// Runners of the deployment and version wait with another machine size.
        cold_other_machine_size "other_machine_size";
        /// All runners of the key are too close to their timeout.
        cold_parked "parked";
        /// A cordon covers the deployment, or the nodes of the key's waiting runners.
        cold_cordoned "cordoned";
        /// The broker is shutting down.
        cold_shutting_down "shutting_down";
        /// No room for another key.
        cold_key_limit "key_limit";
        /// No room for the bytes of the run.
        cold_bytes_limit "bytes_limit";
    }
    "attempts" Count "Delivery attempts begun: a dispatch claimed a waiting runner's poll." {
        attempts;
    }
    "attempts_ended" Count "Delivery attempts ended: confirmed (delivery was proven as --confirm requires), reset (the runner's connection ended first), ack_timeout (the runner's kernel did not acknowledge the run), read_timeout (the runner's process did not read the run)." "end" {
        /// Delivery proven.
        attempts_confirmed "confirmed";
        /// The peer reset or closed the connection first.
        attempts_reset "reset";
        /// Not acknowledged in time.
        attempts_ack_timeout "ack_timeout";
        /// Acknowledged, but not read in time.
        attempts_read_timeout "read_timeout";
    }
    "polls" Count "Polls held." {
        polls;
    }
    "polls_guarded" Count "Polls that came within --guard of their timeout without a run: they stay held, and are offered no run." {
        /// Polls parked by the guard.
        polls_guarded;
    }
    "polls_ended" Count "Polls that ended without a run: left (the runner closed its connection), expired (connection timeout reached), closed (by the broker, for shutdown, a cordon or a limit)." "end" {
        /// Polls whose runner closed its connection.
        polls_left "left";
        /// Polls closed at their connection timeout.
        polls_expired "expired";
        /// Polls closed for shutdown, a cordon or a limit.
        polls_closed "closed";
    }
    "connect_requests" Count "GET /connect requests answered." {
        /// `GET /connect` requests answered.
        connects;
    }
    "requests_rejected" Count "Requests answered with 4xx or 5xx." {
        /// Requests answered with 4xx or 5xx.
        rejected;
    }
    "requests_timed_out" Count "Connections closed because a request took longer than --request-timeout to arrive." {
        /// Connections closed because a request took too long to arrive.
        requests_timed_out;
    }
    "connections_accepted" Count "Connections accepted." {
        accepted;
    }
    "connections_refused" Count "Connections closed at a limit: connections (--max-connections), address (--max-connections-per-address), and polls closed at a limit: keys (--max-keys), key (--max-polls-per-key), deployment (--max-polls-per-deployment)." "limit" {
        /// Connections closed at the limit of all connections.
        refused_connections "connections";
        /// Connections closed at the limit of their address.
        refused_per_address "address";
        /// Polls closed because all remembered keys are in use.
        refused_keys "keys";
        /// Polls closed at the limit of their key.
        refused_per_key "key";
        /// Polls closed at the limit of their deployment.
        refused_per_deployment "deployment";
    }
    "requests_over_budget" Count "Requests refused, closed or answered false because too many bytes were in flight (--max-buffered)." {
        /// Requests refused, closed or answered false because too many bytes were in flight.
        refused_bytes;
    }
    "tls_connections_over_budget" Count "Connections closed because incomplete TLS records used too much memory (--max-buffered)." {
        /// Connections closed because incomplete TLS records used too much memory.
        refused_records;
    }
    "dispatches_forbidden" Count "Dispatches refused because their address may not dispatch (--dispatch-allow)." {
        /// Dispatches refused because their address may not dispatch.
        dispatches_forbidden;
    }
    "connections_evicted" Count "Connections that had not sent a byte yet, closed to make room at --max-connections." {
        /// Silent connections closed to make room at the limit.
        evicted;
    }
    "connections_closed" Count "Connections closed, by either side." {
        /// Connections closed, by either side.
        closed;
    }
    "accept_errors" Count "Accepts that failed for lack of descriptors or memory." {
        /// Accepts that failed for lack of descriptors or memory.
        accept_errors;
    }
    "engine_shortages" Count "io_uring: received bytes that waited for a free buffer, and turns whose completions overflowed the queue. Always 0 with epoll." "what" {
        /// Received bytes that waited a turn for a free buffer (io_uring).
        buffer_shortages "buffers";
        /// Turns with more completions than the queue holds (io_uring).
        queue_overflows "completions";
    }
    "tls_handshakes" Count "TLS handshakes that ended: done (the connection can be used) or failed." "result" {
        /// Successful TLS handshakes.
        tls_handshakes "done";
        /// Failed TLS handshakes: no TLS, no common version, or a certificate that one side refused.
        tls_failures "failed";
    }
    "received" Bytes "Bytes received from runners and supervisors." {
        bytes_in;
    }
    "sent" Bytes "Bytes passed to the kernel for runners and supervisors." {
        /// Bytes passed to the kernel.
        bytes_out;
    }
    "token_faults" Count "Polls with an invalid deployment token, by reason: refused with --token-mode enforce, held with --token-mode log." "reason" {
        /// Polls with an id instead of a token.
        token_bare "bare";
        /// Polls whose token is not a JWT.
        token_malformed "malformed";
        /// Polls whose token uses another algorithm than HS256.
        token_algorithm "algorithm";
        /// Polls whose token is not signed with a known secret.
        token_signature "signature";
        /// Polls whose signed token lacks the claims of a deployment token.
        token_claims "claims";
        /// Polls with an expired token.
        token_expired "expired";
        /// Polls whose token is for another version.
        token_version "version";
    }
    "token_verifications" Count "Token signatures computed. A valid token is remembered, so it costs one." {
        token_verifications;
    }
    "offers_sent" Count "Runs offered to another worker." {
        /// Runs offered to another worker.
        offers_sent;
    }
    "offers_returned" Count "Offers that another worker returned undelivered." {
        /// Offers that another worker returned undelivered.
        offers_returned;
    }
    "mail_handled_inline" Count "Times that another worker handled this worker's mailbox inline, because this worker was blocked (epoll, --descriptor-tables process)." {
        /// Times that another worker handled this worker's mailbox inline.
        mail_handled_inline;
    }
    "dispatches_untraced" Count "Dispatches without trace events because --traced-dispatches were reported in the same second already (--otlp-endpoint)." {
        /// Dispatches that may have a trace and were not reported for lack of allowance.
        dispatches_untraced;
    }
    "events_dropped" Count "Events for the log, traces or the list of recent dispatches that were dropped because the control thread was behind." {
        /// Events dropped because their queue was full.
        events_dropped;
    }
}

impl Counters {
    /// Dispatches answered false: cold or unconfirmed.
    pub fn answered_false(&self) -> u64 {
        self.cold() + self.unconfirmed
    }

    /// Connections and polls closed at a limit.
    pub fn refused(&self) -> u64 {
        self.refused_connections
            + self.refused_per_address
            + self.refused_keys
            + self.refused_per_key
            + self.refused_per_deployment
    }

    /// Dispatches answered false without a delivery attempt.
    pub fn cold(&self) -> u64 {
        self.cold_no_runner
            + self.cold_other_version
            + self.cold_other_machine_size
            + self.cold_parked
            + self.cold_cordoned
            + self.cold_shutting_down
            + self.cold_key_limit
            + self.cold_bytes_limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn members_are_distinct_and_the_sum_contains_every_reason() {
        let counters = Counters::distinct(1);
        for family in FAMILIES {
            assert_eq!(family.label.is_empty(), family.members.len() == 1, "{}", family.name);
            let values: BTreeSet<&str> = family.members.iter().map(|member| member.value).collect();
            assert_eq!(values.len(), family.members.len(), "{}", family.name);
        }
        let cold = FAMILIES.iter().find(|family| family.name == "cold").unwrap();
        let sum: u64 = cold.members.iter().map(|member| (member.of)(&counters)).sum();
        assert_eq!(counters.cold(), sum);
        assert_eq!(counters.answered_false(), sum + counters.unconfirmed);
    }
}
