//! Handles facts about a connection according to its state, and ends connections.

use super::Broker;
use super::connections::State;
use super::event::{AttemptEnd, PollEnd};
use super::io::{ConnId, Output, Payload, SendConfirm, Shared, TcpFacts};
use super::time::Time;

impl<S: Shared> Broker<S> {
    pub(super) fn sent(&mut self, now: Time, id: ConnId) {
        let Some(conn) = self.connections.find(id) else { return };
        match conn.state {
            State::Claimed(_) => self.run_sent(now, id.slot),
            State::Continue(_) => self.continue_sent(now, id),
            State::Writing { refused: true } => self.linger(now, id.slot),
            State::Writing { refused: false } => self.finish_request(now, id.slot),
            _ => {}
        }
    }

    pub(super) fn peer_closed(&mut self, now: Time, id: ConnId, facts: Option<TcpFacts>) {
        let Some(conn) = self.connections.find(id) else { return };
        conn.peer_closed = true;
        match &conn.state {
            State::Claimed(_) => self.claimed_peer_closed(now, id.slot, facts),
            State::Waiting(_) => self.end_poll(now, id.slot, PollEnd::Left),
            // A client may close its sending side after a request. It still gets its answer.
            State::Dispatch(_) | State::Writing { .. } => {}
            _ => self.close(id.slot),
        }
    }

    pub(super) fn reset(&mut self, now: Time, id: ConnId) {
        let Some(conn) = self.connections.find(id) else { return };
        match &conn.state {
            State::Claimed(_) => self.release(now, id.slot, AttemptEnd::Reset),
            State::Waiting(_) => self.end_poll(now, id.slot, PollEnd::Left),
            _ => self.close(id.slot),
        }
    }

    pub(super) fn probed(&mut self, now: Time, id: ConnId, facts: TcpFacts) {
        let Some(conn) = self.connections.find(id) else { return };
        match conn.state {
            State::Waiting(_) => self.round_trip_measured(id.slot, facts),
            State::Claimed(_) => self.evaluate_facts(now, id.slot, facts),
            _ => {}
        }
    }

    pub(super) fn timer_fired(&mut self, now: Time, slot: u32) {
        match &self.connections.get(slot).state {
            State::Waiting(_) => self.poll_timer(now, slot),
            State::Claimed(_) => self.claim_timer(now, slot),
            State::Dispatch(_) => self.dispatch_timer(now, slot),
            State::Head(_) | State::Body(_) | State::Continue(_) => self.request_timed_out(slot),
            State::Writing { .. } => self.abort(slot),
            State::Fresh { .. } | State::Idle | State::Lingering => self.close(slot),
            State::Free => {}
        }
    }

    /// Writes a response. If `refused`, the connection ends after it.
    pub(super) fn respond(&mut self, now: Time, slot: u32, payload: Payload, refused: bool) {
        let conn = self.connections.id(slot);
        self.counters.bytes_out += payload.bytes().len() as u64;
        self.connections.get_mut(slot).state = State::Writing { refused };
        self.connections.arm(slot, now.plus_ms(self.settings.write_timeout_ms));
        self.outputs.push_back(Output::Send { conn, payload, confirm: SendConfirm::None });
    }

    /// Closes the connection normally, in any state.
    pub(super) fn close(&mut self, slot: u32) {
        self.uncount_connection();
        self.close_counted(slot);
    }

    /// Closes the connection without changing the count: another one takes its place.
    pub(super) fn close_counted(&mut self, slot: u32) {
        let conn = self.connections.id(slot);
        self.forget(slot);
        self.outputs.push_back(Output::Close { conn });
    }

    /// Closes the connection with a reset, so that nothing unsent can reach the peer later.
    pub(super) fn abort(&mut self, slot: u32) {
        let conn = self.connections.id(slot);
        self.uncount_connection();
        self.forget(slot);
        self.outputs.push_back(Output::Abort { conn });
    }

    /// Releases everything that the connection held.
    fn forget(&mut self, slot: u32) {
        self.counters.closed += 1;
        self.release_limits(slot);
        let (state, _buffer) = self.connections.close(slot);
        match state {
            State::Waiting(poll) => self.drop_poll(slot, &poll),
            State::Claimed(claim) => self.drop_claim(slot, *claim),
            State::Dispatch(pending) => self.drop_dispatch(*pending),
            _ => {}
        }
    }

    /// The last response has been written: closes the connection so that the peer can still read the response. A
    /// normal close with unread bytes would send a reset, which may overtake the response (RFC 9112 section 9.6).
    pub(super) fn linger(&mut self, now: Time, slot: u32) {
        let id = self.connections.id(slot);
        let conn = self.connections.get_mut(slot);
        if conn.peer_closed {
            return self.close(slot);
        }
        conn.state = State::Lingering;
        conn.buffer = Vec::new();
        self.recount_bytes(id);
        self.outputs.push_back(Output::HalfClose { conn: id });
        self.resume(slot);
        self.connections.arm(slot, now.plus_ms(self.settings.linger_ms));
    }
}
