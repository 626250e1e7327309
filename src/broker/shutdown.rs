//! Shutdown: the broker answers new dispatches false, finishes deliveries, and closes held polls one by one. Every
//! response announces that its connection closes.

use super::Broker;
use super::connections::State;
use super::connections::shutdown_schedule::ShutdownSchedule;
use super::io::{Output, Shared};
use super::pools::PollState;
use super::time::Time;

impl<S: Shared> Broker<S> {
    /// Begins the shutdown. Spreads the closing of held polls over the shutdown time, so that their runners do not
    /// all reconnect at the same moment.
    pub(super) fn begin_shutdown(&mut self, now: Time) {
        if self.shutdown.is_some() {
            return;
        }
        let shutdown_us = self.settings.shutdown_time_ms * 1_000;
        self.shutdown = Some(ShutdownSchedule::new(now, shutdown_us));
        self.outputs.push_back(Output::StopAccepting);
        let held = self.unclaimed_polls(|_, _| true);
        let count = held.len() as u64;
        for (index, slot) in held.into_iter().enumerate() {
            let State::Waiting(poll) = self.connections.get(slot).state else { continue };
            if poll.state == PollState::Matchable {
                self.set_poll_state(slot, PollState::Parked);
            }
            let in_turn = now.plus_us(shutdown_us * index as u64 / count);
            self.connections.arm(slot, in_turn.min(self.poll_expiry(&poll)));
        }
    }

    /// Reports `ShutdownComplete` once no connection is left. After the shutdown time, closes all connections
    /// but those whose delivery or answer is in progress.
    pub(super) fn shutdown_progress(&mut self, now: Time) {
        let Some(shutdown) = &self.shutdown else { return };
        if shutdown.is_complete() {
            return;
        }
        if shutdown.must_close(now) {
            let slots: Vec<u32> = self.connections.iter().map(|(slot, _)| slot).collect();
            for slot in slots {
                let state = &self.connections.get(slot).state;
                if !matches!(state, State::Claimed(_) | State::Dispatch(_) | State::Writing { .. }) {
                    self.close(slot);
                }
            }
        }
        // Deliveries and answers in progress end within the dispatch timeout by their own timers.
        let Some(shutdown) = &mut self.shutdown else { return };
        if shutdown.advance(now, self.connections.open_count()) {
            self.outputs.push_back(Output::ShutdownComplete);
        }
    }
}
