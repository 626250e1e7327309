//! What a worker counts, each number declared once: field, `/status` name, metric, label and help.

/// Numbers that belong together: one metric, its members told apart by a label.
#[derive(Debug)]
pub struct Family {
    /// The metric without `pilotlight_`, and without the unit and `_total` that its encoder appends.
    pub name: &'static str,
    /// What it counts, and in which circumstances, for whoever reads `/metrics`.
    pub help: &'static str,
    /// What one of it is.
    pub unit: CounterUnit,
    /// The label that tells the members apart; empty if there is but one.
    pub label: &'static str,
    /// In the order of their declaration.
    pub members: &'static [Member],
}

/// One number of a [`Family`].
#[derive(Debug)]
pub struct Member {
    /// The field's name, which is its name in `/status`; `None` for a sum of others.
    pub field: Option<&'static str>,
    /// Its label's value.
    pub value: &'static str,
    /// Where it stands.
    pub of: fn(&Counters) -> u64,
}

/// What one of a counter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterUnit {
    /// A thing.
    Count,
    /// A byte.
    Bytes,
}

macro_rules! counters {
    ($(
        $name:literal $unit:ident $help:literal $($label:literal)? {
            $($(#[$doc:meta])* $field:ident $($value:literal)?;)*
            $(+ $sum:literal $of:expr;)*
        }
    )*) => {
        /// Counters of one worker, from the start. Plain numbers: a worker has one writer.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($($(#[$doc])* pub $field: u64,)*)*
        }

        /// Every counter, as metrics.
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
            /// Counters that are all different, from `first` on.
            pub fn distinct(first: u64) -> Counters {
                let mut next = first..;
                Counters { $($($field: next.next().unwrap_or_default(),)*)* }
            }
        }
    };
}

counters! {
    "dispatches" Count "Dispatches by outcome: hit (answered true), miss (false: no runner could be offered the run; pilotlight_cold says why), unconfirmed (false: runners were offered the run and none was proved to have it), rejected (4xx: not a well-formed dispatch)." "outcome" {
        /// Dispatches answered true.
        warm "warm";
        /// Dispatches answered false: polls were offered the run, none confirmed it.
        unconfirmed "unconfirmed";
        /// Dispatches refused with a 4xx.
        dispatches_rejected "rejected";
        + "cold" |c| c.cold();
    }
    "cold" Count "Dispatches answered false because no runner could be offered the run, by reason: nobody (no runner of the deployment waits), other_version and other_machine_size (one does, with another version or machine), ending (runners of the key wait, all in their last moments), cordoned (runs are kept away from it), shutting_down, key_limit (--max-keys), bytes_limit (--max-buffered). Of other workers only a hash is known: among n waiting deployments, one in 4096/n cold may read other_version for nobody." "reason" {
        /// Nobody waits for the deployment.
        cold_no_runner "no_runner";
        /// Somebody waits for the deployment, in another version.
        cold_other_version "other_version";
        /// Somebody waits for the deployment and the version, on another machine.
        cold_other_machine_size "other_machine_size";
        /// Polls of the key are held, all in their last moments.
        cold_parked "parked";
        /// Polls of the key are held under a cordon.
        cold_cordoned "cordoned";
        /// The broker is on its way out.
        cold_shutting_down "shutting_down";
        /// No room for one more key.
        cold_key_limit "key_limit";
        /// No room for the bytes of one more.
        cold_bytes_limit "bytes_limit";
    }
    "attempts" Count "Deliveries begun: a waiting poll was claimed for a run." {
        /// Delivery attempts begun (polls claimed).
        attempts;
    }
    "attempts_ended" Count "Deliveries ended: confirmed (proved in the sense of --confirm), reset (the runner closed first), ack_timeout (its machine is silent), read_timeout (its process is frozen)." "end" {
        /// Attempts confirmed.
        attempts_confirmed "confirmed";
        /// Attempts that ended with the peer's reset or close.
        attempts_reset "reset";
        /// Attempts given up without an acknowledgement.
        attempts_ack_timeout "ack_timeout";
        /// Attempts given up acknowledged but unread.
        attempts_read_timeout "read_timeout";
    }
    "polls" Count "Polls held." {
        /// Polls held.
        polls;
    }
    "polls_guarded" Count "Polls that reached their last moments (--guard) without a run: they are held and offered no run any more." {
        /// Polls parked by the guard.
        polls_guarded;
    }
    "polls_ended" Count "Polls that ended without a run: left (the runner closed), expired (at its connection timeout), closed (drain, cordon, capacity)." "end" {
        /// Polls that ended because the runner closed.
        polls_left "left";
        /// Polls closed at their connection timeout.
        polls_expired "expired";
        /// Polls closed by us for another reason: drain, cordon, capacity.
        polls_closed "closed";
    }
    "connect_requests" Count "GET /connect answered." {
        /// `GET /connect` answered.
        connects;
    }
    "requests_rejected" Count "Requests answered with a 4xx or 5xx." {
        /// Requests refused with a 4xx or 5xx.
        rejected;
    }
    "requests_timed_out" Count "Connections closed because a request took longer than --request-timeout to arrive." {
        /// Requests closed because their bytes took too long.
        requests_timed_out;
    }
    "connections_accepted" Count "Connections accepted." {
        /// Connections accepted.
        accepted;
    }
    "connections_refused" Count "Connections closed because a limit was reached: connections (--max-connections), address (--max-connections-per-address), and polls by keys (--max-keys), key (--max-polls-per-key), deployment (--max-polls-per-deployment)." "limit" {
        /// Connections refused at the limit of all of them.
        refused_connections "connections";
        /// Connections refused at the limit of their address.
        refused_per_address "address";
        /// Polls refused because all keys that are remembered are in use.
        refused_keys "keys";
        /// Polls refused at the limit of their key.
        refused_per_key "key";
        /// Polls refused at the limit of their deployment.
        refused_per_deployment "deployment";
    }
    "requests_over_budget" Count "Requests refused, closed or answered false because too many bytes were in flight (--max-buffered)." {
        /// Requests closed, refused or answered false because the budget for bytes in flight is used up.
        refused_bytes;
    }
    "tls_connections_over_budget" Count "Connections closed because incomplete TLS records took too much memory (--max-buffered)." {
        /// Connections closed because incomplete TLS records owned more memory than they may.
        refused_records;
    }
    "dispatches_forbidden" Count "Dispatches refused because their address may not send any (--dispatch-allow)." {
        /// Dispatches refused because their address may not send any.
        dispatches_forbidden;
    }
    "connections_evicted" Count "Connections that had not sent a byte yet, closed to make room at --max-connections." {
        /// Silent connections closed to make room at the limit.
        evicted;
    }
    "connections_closed" Count "Connections closed, by either side." {
        /// Connections closed, by whichever side.
        closed;
    }
    "accept_errors" Count "Accepts that failed for want of descriptors or memory." {
        /// Accept failures for want of descriptors or memory.
        accept_errors;
    }
    "engine_shortages" Count "Bytes or completions of io_uring that waited a turn for want of room; always 0 with epoll." "what" {
        /// Bytes that came when no receive buffer was free, and waited a turn (io_uring).
        buffer_shortages "buffers";
        /// Turns that brought more completions than the queue holds (io_uring).
        queue_overflows "completions";
    }
    "tls_handshakes" Count "TLS handshakes that ended, in a connection that can be used or in none." "result" {
        /// TLS handshakes that ended in a connection that can be used.
        tls_handshakes "done";
        /// TLS handshakes that failed: no TLS, no common version, a certificate that one side refused.
        tls_failures "failed";
    }
    "received" Bytes "Bytes received from runners and supervisors." {
        /// Bytes received.
        bytes_in;
    }
    "sent" Bytes "Bytes handed to the kernel for runners and supervisors." {
        /// Bytes handed to the kernel.
        bytes_out;
    }
    "token_faults" Count "Polls whose deployment token is at fault, by what is wrong with it: refused in --token-mode enforce, held in log." "reason" {
        /// Polls with a bare id where a token is wanted (refused in mode `enforce`, held in `log`).
        token_bare "bare";
        /// The same, with what is no token.
        token_malformed "malformed";
        /// The same, with a token of another algorithm.
        token_algorithm "algorithm";
        /// The same, with a token that no known secret has signed.
        token_signature "signature";
        /// The same, with a signed token whose claims are not those of a deployment.
        token_claims "claims";
        /// The same, with an expired token.
        token_expired "expired";
        /// The same, with a token of another version.
        token_version "version";
    }
    "token_verifications" Count "Token signatures computed: a good token is remembered and costs one." {
        /// Token signatures computed: one per distinct token, if it is good.
        token_verifications;
    }
    "offers_sent" Count "Runs offered to another worker." {
        /// Runs offered to another worker.
        offers_sent;
    }
    "offers_returned" Count "Offers that another worker had no waiting poll for after all." {
        /// Offers that another worker had no poll for after all.
        offers_returned;
    }
    "mail_handled_inline" Count "Times that another worker handled this worker's mail inline while its thread blocked (epoll, --descriptor-tables process)." {
        /// Times that another worker handled this one's mail inline while its thread blocked.
        mail_handled_inline;
    }
    "dispatches_untraced" Count "Dispatches that were not looked at for a trace, or whose trace was left out, because --traced-dispatches were told of in that second already (--otlp-endpoint)." {
        /// Dispatches that may have a trace and were not told of for want of allowance.
        dispatches_untraced;
    }
    "events_dropped" Count "Events for the log, for traces or for the list of recent dispatches that were dropped because the control thread was behind." {
        /// Events dropped because their queue was full.
        events_dropped;
    }
}

impl Counters {
    /// Dispatches answered false.
    pub fn answered_false(&self) -> u64 {
        self.cold() + self.unconfirmed
    }

    /// Connections refused at a limit, whichever.
    pub fn refused(&self) -> u64 {
        self.refused_connections
            + self.refused_per_address
            + self.refused_keys
            + self.refused_per_key
            + self.refused_per_deployment
    }

    /// Dispatches answered false that no poll was offered to.
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
    fn members_are_told_apart_and_every_reason_is_in_the_sum() {
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
