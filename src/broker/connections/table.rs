//! The table of connections, indexed by the engine's slots.

use super::state::{Connection, State};
use super::timer::Wheel;
use crate::broker::contract::Side;
use crate::broker::ids::ConnId;
use crate::broker::pools::{Links, List};
use crate::broker::time::Time;

/// All connections of one worker.
///
/// Invariants: each open connection has exactly one timer; a connection is in the silent list if and only if
/// it is [`State::Fresh`] without unread bytes.
#[derive(Default)]
pub struct Connections {
    slots: Vec<Connection>,
    open: usize,
    timers: Wheel,
    /// Connections that have not sent a byte, oldest first. They make room for new ones at the limit.
    silent: List,
    silent_links: Links,
}

impl Connections {
    /// Opens `id`, whose slot is free, with a timer at `deadline`.
    pub fn open(&mut self, id: ConnId, side: Side, may_dispatch: bool, deadline: Time) {
        let slot = id.slot as usize;
        while self.slots.len() <= slot {
            self.slots.push(Connection::new(0, State::Free, side, may_dispatch));
        }
        let state = State::Fresh { has_unread: false };
        self.slots[slot] = Connection::new(id.generation, state, side, may_dispatch);
        self.open += 1;
        self.silent.push_back(&mut self.silent_links, id.slot);
        self.timers.arm(id.slot, deadline);
    }

    /// The open connection `id`; `None` if it has ended, even if its slot is in use again.
    #[inline]
    pub fn find(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.slots
            .get_mut(id.slot as usize)
            .filter(|conn| conn.generation == id.generation && !matches!(conn.state, State::Free))
    }

    /// The connection in `slot`, which the caller knows to be open.
    #[inline]
    pub fn get(&self, slot: u32) -> &Connection {
        &self.slots[slot as usize]
    }

    /// Like [`Connections::get`].
    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> &mut Connection {
        &mut self.slots[slot as usize]
    }

    /// The id of the connection in `slot`.
    #[inline]
    pub fn id(&self, slot: u32) -> ConnId {
        ConnId { slot, generation: self.slots[slot as usize].generation }
    }

    /// Sets the connection's timer.
    #[inline]
    pub fn arm(&mut self, slot: u32, deadline: Time) {
        self.timers.arm(slot, deadline);
    }

    /// One slot whose timer has expired, disarmed. Call it until it returns `None`.
    pub fn expired(&mut self, now: Time) -> Option<u32> {
        self.timers.expired(now)
    }

    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next_deadline()
    }

    /// The oldest connection that has sent nothing since it was accepted.
    pub fn oldest_silent(&self) -> Option<u32> {
        self.silent.front()
    }

    /// Removes the connection from the silent list, if it is there. The caller changes its state.
    #[inline]
    pub fn end_silence(&mut self, slot: u32) {
        if matches!(self.get(slot).state, State::Fresh { has_unread: false }) {
            self.silent.remove(&mut self.silent_links, slot);
        }
    }

    /// Frees the slot. Returns the connection's last state and buffer.
    pub fn close(&mut self, slot: u32) -> (State, Vec<u8>) {
        self.timers.cancel(slot);
        self.end_silence(slot);
        let conn = &mut self.slots[slot as usize];
        self.open -= 1;
        (std::mem::replace(&mut conn.state, State::Free), std::mem::take(&mut conn.buffer))
    }

    pub fn open_count(&self) -> usize {
        self.open
    }

    /// Armed timers, one per open connection.
    pub fn timer_count(&self) -> usize {
        self.timers.armed()
    }

    pub fn silent_count(&self) -> usize {
        self.silent.len()
    }

    /// Open connections by slot, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Connection)> {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, conn)| !matches!(conn.state, State::Free))
            .map(|(slot, conn)| (slot as u32, conn))
    }
}
