//! Cordon and uncordon.

use super::Broker;
use super::connections::State;
use super::event::PollEnd;
use super::io::Shared;
use super::pools::PollState;
use super::pools::cordons::covers;
use super::report::Selector;
use super::time::Time;

impl<S: Shared> Broker<S> {
    /// Closes the held polls that the selector covers. The broker holds new ones without matching them until
    /// the cordon is removed. If it closed those as well, their runners would reconnect in a tight loop.
    pub(super) fn cordon(&mut self, now: Time, selector: Selector) {
        for slot in self.unclaimed_polls(|deployment, node| covers(&selector, deployment, node)) {
            self.end_poll(now, slot, PollEnd::Closed);
        }
        self.cordons.insert(selector);
    }

    /// Removes a cordon. The polls held under it become matchable again, except during a shutdown.
    pub(super) fn uncordon(&mut self, now: Time, selector: &Selector) {
        if !self.cordons.remove(selector) || self.shutdown.is_some() {
            return;
        }
        let freed = self.unclaimed_polls(|deployment, node| {
            covers(selector, deployment, node) && !self.cordons.covers(deployment, node)
        });
        for slot in freed {
            let State::Waiting(poll) = &self.connections.get(slot).state else { continue };
            if poll.state != PollState::Cordoned {
                continue;
            }
            if now < poll.offer_until {
                self.set_poll_state(slot, PollState::Matchable);
                self.arm_poll_timer(slot);
            } else {
                self.set_poll_state(slot, PollState::Parked);
            }
        }
    }
}
