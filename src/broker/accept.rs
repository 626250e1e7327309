//! Accepts connections, and makes room for them at the limit.
//!
//! At the limit, the broker closes the oldest connection that has sent nothing since it was accepted: clients
//! open such connections ahead of need. To make room, it never closes a connection that has sent bytes.

use super::Broker;
use super::connections::State;
use super::contract::Side;
use super::io::{ConnId, Output, Shared, WorkerSet};
use super::time::Time;

impl<S: Shared> Broker<S> {
    pub(super) fn accepted(&mut self, now: Time, id: ConnId, side: Side) {
        self.counters.accepted += 1;
        if !self.make_room() {
            self.counters.refused_connections += 1;
            self.outputs.push_back(Output::Close { conn: id });
            return;
        }
        let deadline = now.plus_ms(self.settings.preconnect_timeout_ms);
        self.connections.open(id, side, self.settings.dispatch_from_anyone, deadline);
    }

    /// The connection that the broker would close to make room for the next one. The driver asks the kernel
    /// whether it holds unreported bytes from this connection, and if so reports [`super::io::Input::Unread`].
    pub fn next_to_make_room(&self) -> Option<ConnId> {
        let limit = self.settings.connections;
        // Other workers may use up the rest before the next connection arrives here.
        let margin = limit.common / 8 + WorkerSet::WORKERS_MAX;
        let scarce = self.connections.open_count() >= limit.own
            && self.shared.open_connections() + margin >= limit.common;
        if scarce { self.connections.oldest_silent().map(|slot| self.connections.id(slot)) } else { None }
    }

    /// The kernel holds bytes from this connection, so the broker no longer closes it to make room.
    pub(super) fn unread(&mut self, id: ConnId) {
        let Some(conn) = self.connections.find(id) else { return };
        if matches!(conn.state, State::Fresh { .. }) {
            self.connections.end_silence(id.slot);
            self.connections.get_mut(id.slot).state = State::Fresh { has_unread: true };
        }
    }

    /// Counts one more connection. At the limit, closes a silent one instead. Returns false if there is none.
    fn make_room(&mut self) -> bool {
        if self.count_connection() {
            return true;
        }
        let Some(slot) = self.connections.oldest_silent() else { return false };
        self.counters.evicted += 1;
        // The new connection takes over the place of the closed one in the count.
        self.close_counted(slot);
        true
    }

    /// Counts one more connection: in the worker's own part of the limit, or in the common one.
    fn count_connection(&mut self) -> bool {
        let limit = self.settings.connections;
        self.connections.open_count() < limit.own || self.shared.open_connection(limit.common)
    }

    /// Counts one connection fewer. Returns the place to the common part of the limit first.
    pub(super) fn uncount_connection(&mut self) {
        if self.connections.open_count() > self.settings.connections.own {
            self.shared.close_connection();
        }
    }
}
