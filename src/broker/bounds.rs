//! What one client can take: connections of its address, and bytes that cannot be used yet.
//!
//! At a bound a poll, or what may be half of one, is closed, which its runner survives; anything else is
//! told why. Each refusal is counted; the control plane makes a line of the log out of the counts.

use super::Broker;
use super::budget::Part;
use super::conn::{NO_GROUP, State};
use super::event::PollEnd;
use super::http::Rejection;
use super::io::{ConnId, Output, Peer, Shared};
use super::time::Time;

impl<S: Shared> Broker<S> {
    /// A new connection's address is known: it is counted with it, and closed if it is one too many.
    pub(super) fn peer_known(&mut self, id: ConnId, peer: Peer) {
        let Some(conn) = self.conns.get(id) else { return };
        conn.may_dispatch = peer.may_dispatch;
        let Some(group) = peer.group else { return };
        if self.shared.open_from(group, self.settings.connections_per_address_max) {
            conn.group = group;
            return;
        }
        self.counters.refused_per_address += 1;
        self.close(id.slot);
    }

    /// The connection on `slot` ends: its address has one less, and its bytes are free.
    pub(super) fn no_longer_counted(&mut self, slot: u32) {
        let conn = self.conns.at(slot);
        let bytes = std::mem::take(&mut conn.counted_bytes);
        if conn.group != NO_GROUP {
            self.shared.close_from(conn.group);
        }
        if bytes > 0 {
            self.budget.release(&self.shared, bytes);
        }
    }

    /// Counts what a connection holds when that may have changed, and refuses it if it is too much.
    #[inline]
    pub(super) fn bound_bytes(&mut self, now: Time, id: ConnId) {
        if !self.recount(id) {
            self.refuse_bytes(now, id.slot);
        }
    }

    /// Counts what a connection holds now. False: there is no room for that.
    #[inline]
    pub(super) fn recount(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get(id) else { return true };
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
        // What was let in because it would soon be used may turn out to be incomplete.
        bytes == 0 || self.budget.is_within()
    }

    #[cold]
    fn refuse_bytes(&mut self, now: Time, slot: u32) {
        const FULL: Rejection =
            Rejection::new(503, "too many bytes are in flight (--max-buffered): try again, or start cold");
        let id = self.conns.id(slot);
        let conn = self.conns.at(slot);
        match &conn.state {
            State::Body(_) => self.reject(now, slot, &FULL, false),
            State::Head(_) if conn.buffer.starts_with(b"POST ") => self.reject(now, slot, &FULL, false),
            State::Waiting(_) => self.end_poll(now, slot, PollEnd::Closed),
            // What came behind a request that is being answered, or ahead of the 100 that is being
            // written; that takes seconds at most, and a second response must not overtake the first.
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
        self.recount(id);
    }

    /// The counts agree with what is held. Debug builds only.
    #[cfg(debug_assertions)]
    pub(super) fn check_bounds(&self) {
        let mut bytes = 0;
        for (slot, conn) in self.conns.iter() {
            assert_eq!(conn.counted_bytes, conn.buffered_bytes(), "bytes of connection {slot}");
            bytes += conn.counted_bytes;
            bytes += match &conn.state {
                State::Dispatch(pending) => pending.payload.bytes().len(),
                State::Claimed(claim) => claim.offer.payload.bytes().len(),
                _ => 0,
            };
        }
        assert_eq!(bytes, self.budget.held(), "bytes in flight");
        let held: usize = self.pools.iter().map(|pool| pool.held()).sum();
        assert_eq!(held, self.waiting(), "held polls of all keys");
    }
}
