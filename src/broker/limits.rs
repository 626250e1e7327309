//! Limits per client: connections from its address, and bytes that cannot be used yet.
//!
//! At a limit, the broker closes a poll, or a request that may become one; its runner survives that. It answers
//! any other request with the reason. It counts each refusal, and the control thread logs the counts.

use super::Broker;
use super::connections::budget::Part;
use super::connections::{NO_GROUP, State};
use super::event::PollEnd;
use super::http::Rejection;
use super::io::{ConnId, Output, Peer, Shared};
use super::time::Time;

impl<S: Shared> Broker<S> {
    /// Counts a new connection toward its address's limit, and closes it if the limit is reached.
    pub(super) fn peer_identified(&mut self, id: ConnId, peer: Peer) {
        let Some(conn) = self.connections.find(id) else { return };
        conn.may_dispatch = peer.may_dispatch;
        let Some(group) = peer.group else { return };
        if self.shared.open_from(group, self.settings.connections_per_address_max) {
            conn.group = group;
            return;
        }
        self.counters.refused_per_address += 1;
        self.close(id.slot);
    }

    /// Releases what the ending connection on `slot` counts toward: its address's limit, and the budget.
    pub(super) fn release_limits(&mut self, slot: u32) {
        let conn = self.connections.get_mut(slot);
        let bytes = std::mem::take(&mut conn.counted_bytes);
        if conn.group != NO_GROUP {
            self.shared.close_from(conn.group);
        }
        if bytes > 0 {
            self.budget.release(&self.shared, bytes);
        }
    }

    /// Recounts a connection's bytes after they may have changed. Refuses its request if they exceed the budget.
    #[inline]
    pub(super) fn limit_bytes(&mut self, now: Time, id: ConnId) {
        if !self.recount_bytes(id) {
            self.refuse_bytes(now, id.slot);
        }
    }

    /// Recounts a connection's bytes. Returns false if they exceed the budget.
    #[inline]
    pub(super) fn recount_bytes(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.connections.find(id) else { return true };
        let incomplete = matches!(conn.state, State::Body(_) | State::Continue(_));
        if conn.buffer.capacity() == 0 && conn.counted_bytes == 0 && !incomplete {
            return true;
        }
        let bytes = conn.buffered_bytes();
        let before = std::mem::replace(&mut conn.counted_bytes, bytes);
        if bytes > before {
            return self.budget.hold(&self.shared, bytes - before, Part::Incomplete);
        }
        self.budget.release(&self.shared, before - bytes);
        // Bytes that were over the budget when they arrived may belong to a request that stays incomplete.
        bytes == 0 || self.budget.is_within()
    }

    #[cold]
    fn refuse_bytes(&mut self, now: Time, slot: u32) {
        const FULL: Rejection =
            Rejection::new(503, "too many bytes are in flight (--max-buffered): try again, or start cold");
        let id = self.connections.id(slot);
        let conn = self.connections.get_mut(slot);
        match &conn.state {
            State::Body(_) => self.reject(now, slot, &FULL, false),
            State::Head(_) if conn.buffer.starts_with(b"POST ") => self.reject(now, slot, &FULL, false),
            State::Waiting(_) => self.end_poll(now, slot, PollEnd::Closed),
            // These bytes arrived while a request is being answered, or before the 100 has been written. Both end
            // within seconds, and a second response must not overtake the first.
            State::Claimed(_) | State::Dispatch(_) | State::Writing { .. } | State::Continue(_) => {
                if !conn.paused {
                    conn.paused = true;
                    self.outputs.push_back(Output::Pause { conn: id });
                }
                return;
            }
            _ => self.close(slot),
        }
        self.counters.refused_bytes += 1;
        self.recount_bytes(id);
    }
}
