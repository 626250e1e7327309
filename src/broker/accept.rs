//! New connections, and the room for them.
//!
//! At the limit, the connection that has been silent since its accept for longest makes room: clients open
//! such connections ahead of need. A connection that has sent bytes never makes room.

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

    /// The connection that the next one may close. The driver asks the kernel whether it has bytes of this
    /// connection that were not reported yet, and if so reports [`super::io::Input::Unread`].
    pub fn next_to_make_room(&self) -> Option<ConnId> {
        let limit = self.settings.connections;
        // Other workers may use up the rest before the next connection arrives here.
        let margin = limit.common / 8 + WorkerSet::WORKERS_MAX;
        let scarce = self.connections.open_count() >= limit.own
            && self.shared.open_connections() + margin >= limit.common;
        if scarce { self.connections.oldest_silent().map(|slot| self.connections.id(slot)) } else { None }
    }

    /// The kernel has bytes of this connection, so it no longer makes room for others.
    pub(super) fn unread(&mut self, id: ConnId) {
        let Some(conn) = self.connections.find(id) else { return };
        if matches!(conn.state, State::Fresh { .. }) {
            self.connections.end_silence(id.slot);
            self.connections.get_mut(id.slot).state = State::Fresh { has_unread: true };
        }
    }

    /// Counts one more connection. At the limit, closes a silent one instead. `false`: there is none.
    fn make_room(&mut self) -> bool {
        if self.count_connection() {
            return true;
        }
        let Some(slot) = self.connections.oldest_silent() else { return false };
        self.counters.evicted += 1;
        // It stays counted, for the new connection.
        self.close_counted(slot);
        true
    }

    /// Counts one more connection: in the worker's own part of the limit, or in the common one.
    fn count_connection(&mut self) -> bool {
        let limit = self.settings.connections;
        self.connections.open_count() < limit.own || self.shared.open_connection(limit.common)
    }

    /// Counts one connection fewer. The common part of the limit gets its place back first.
    pub(super) fn uncount_connection(&mut self) {
        if self.connections.open_count() > self.settings.connections.own {
            self.shared.close_connection();
        }
    }
}
