//! The invariants that debug builds check after every input and tick.

use super::Broker;
use super::connections::State;
use super::io::Shared;
use super::pools::PollState;

/// With more connections or pools than this, only the constant-time checks run.
const CONNECTIONS_MAX: usize = 64;

impl<S: Shared> Broker<S> {
    pub(super) fn check_invariants(&self) {
        let timers = self.connections.timer_count();
        assert_eq!(timers, self.connections.open_count(), "every open connection has exactly one timer");
        if self.connections.open_count().max(self.index.pools().len()) <= CONNECTIONS_MAX {
            self.check_states();
            self.check_bytes();
            self.index.check(&self.shared);
        }
    }

    /// Recounts the states of all connections.
    fn check_states(&self) {
        let (mut matchable, mut parked, mut cordoned, mut claimed) = (0, 0, 0, 0);
        let (mut pending, mut silent) = (0, 0);
        for (_, conn) in self.connections.iter() {
            match &conn.state {
                State::Waiting(poll) => match poll.state {
                    PollState::Matchable => matchable += 1,
                    PollState::Parked => parked += 1,
                    PollState::Cordoned => cordoned += 1,
                    PollState::Claimed => panic!("a poll is claimed without a claim"),
                },
                State::Claimed(_) => claimed += 1,
                State::Dispatch(_) => pending += 1,
                State::Fresh { has_unread: false } => silent += 1,
                _ => {}
            }
        }
        let counts = self.index.counts();
        assert_eq!(
            (matchable, parked, cordoned, claimed),
            (counts.matchable, counts.parked, counts.cordoned, counts.claimed),
            "matchable, parked, cordoned, claimed"
        );
        assert_eq!(pending, self.pending_dispatches, "pending dispatches");
        assert_eq!(silent, self.connections.silent_count(), "silent connections");
    }

    /// Recounts the bytes in flight.
    fn check_bytes(&self) {
        let mut bytes = 0;
        for (slot, conn) in self.connections.iter() {
            assert_eq!(conn.counted_bytes, conn.buffered_bytes(), "bytes of connection {slot}");
            bytes += conn.counted_bytes;
            bytes += match &conn.state {
                State::Dispatch(pending) => pending.payload.bytes().len(),
                State::Claimed(claim) => claim.offer.payload.bytes().len(),
                _ => 0,
            };
        }
        assert_eq!(bytes, self.budget.held(), "bytes in flight");
    }
}
