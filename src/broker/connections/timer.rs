//! A hierarchical timing wheel with one timer per connection slot.
//!
//! Six levels of 64 slots, with ticks of one millisecond. Every deadline within two years has a slot, and a
//! timer moves at most five times before it fires. An empty wheel costs nothing. The lists are intrusive (one
//! node per connection slot), so arming, moving and cancelling do not allocate.
//!
//! Two guarantees, tested against a naive oracle:
//! - A timer never fires before its deadline (ticks round up).
//! - [`Wheel::next_deadline`] is never later than the first due timer.
//!
//! Moving a deadline later does not touch the wheel: the node stays where it is, and is linked again when its
//! slot is due. Keep-alive traffic moves deadlines thousands of times a second, and each move is one store.

use crate::broker::time::Time;

const LEVELS: usize = 6;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const TICK_US: u64 = 1_000;
const NIL: u32 = u32::MAX;
const UNLINKED: u16 = u16::MAX;

#[derive(Clone, Copy)]
struct Node {
    prev: u32,
    next: u32,
    /// Index into `heads`, or [`UNLINKED`].
    place: u16,
    deadline: Time,
    /// The tick under which the node is linked: at or before the deadline's tick.
    linked_tick: u64,
}

const IDLE: Node = Node { prev: NIL, next: NIL, place: UNLINKED, deadline: Time(u64::MAX), linked_tick: 0 };

/// One timer per connection slot.
pub struct Wheel {
    nodes: Vec<Node>,
    heads: [u32; LEVELS * SLOTS],
    /// A bit for each non-empty slot of a level.
    occupied: [u64; LEVELS],
    /// All earlier ticks have been handled.
    now_tick: u64,
    armed: usize,
}

impl Default for Wheel {
    fn default() -> Self {
        Wheel {
            nodes: Vec::new(),
            heads: [NIL; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            now_tick: 0,
            armed: 0,
        }
    }
}

impl Wheel {
    /// Arms or moves the timer of `slot`. It fires at the first tick at or after `deadline`.
    #[inline]
    pub fn arm(&mut self, slot: u32, deadline: Time) {
        match self.nodes.get_mut(slot as usize) {
            Some(node) if node.place != UNLINKED && node.linked_tick <= deadline.0 / TICK_US => {
                node.deadline = deadline;
            }
            _ => self.place(slot, deadline),
        }
    }

    /// Links the timer of `slot` at the place that its deadline requires.
    #[inline(never)]
    fn place(&mut self, slot: u32, deadline: Time) {
        if slot as usize >= self.nodes.len() {
            self.nodes.resize(slot as usize + 1, IDLE);
        }
        let node = &mut self.nodes[slot as usize];
        node.deadline = deadline;
        if node.place != UNLINKED {
            self.unlink(slot);
        }
        self.link(slot, tick_at_or_after(deadline));
    }

    /// Disarms the timer of `slot`, if it is armed.
    pub fn cancel(&mut self, slot: u32) {
        if let Some(node) = self.nodes.get(slot as usize)
            && node.place != UNLINKED
        {
            self.unlink(slot);
        }
    }

    pub fn armed(&self) -> usize {
        self.armed
    }

    /// When [`Wheel::expired`] has work to do: no later than the first deadline, and earlier if a slot has to be
    /// cascaded to the levels below.
    pub fn next_deadline(&self) -> Option<Time> {
        self.next_tick().map(|tick| Time(tick * TICK_US))
    }

    /// One slot whose deadline has passed at `now`, disarmed. Call it until it returns `None`.
    pub fn expired(&mut self, now: Time) -> Option<u32> {
        let limit = now.0 / TICK_US;
        loop {
            let tick = match self.next_tick() {
                Some(tick) if tick <= limit => tick,
                _ => {
                    self.now_tick = self.now_tick.max(limit);
                    return None;
                }
            };
            self.now_tick = self.now_tick.max(tick);
            self.cascade(tick);
            let place = (tick as usize) & (SLOTS - 1);
            let slot = self.heads[place];
            if slot == NIL {
                continue;
            }
            self.unlink(slot);
            let due = tick_at_or_after(self.nodes[slot as usize].deadline);
            if due <= limit {
                return Some(slot);
            }
            self.link(slot, due);
        }
    }

    /// The next tick at which a level 0 slot is due or a slot above must be cascaded. The lowest non-empty level
    /// decides it: all its timers are due before the next slot of the level above begins.
    fn next_tick(&self) -> Option<u64> {
        let level = self.occupied.iter().position(|slots| *slots != 0)?;
        let shift = SLOT_BITS * level as u32;
        let here = (self.now_tick >> shift) & (SLOTS as u64 - 1);
        let ahead = self.occupied[level].rotate_right(here as u32).trailing_zeros() as u64;
        let base = (self.now_tick >> shift) + ahead;
        Some((base << shift).max(self.now_tick))
    }

    /// Cascades the slots above level 0 that begin at `tick`: links their nodes at lower levels.
    fn cascade(&mut self, tick: u64) {
        for level in (1..LEVELS).rev() {
            let index = (tick >> (SLOT_BITS * level as u32)) as usize & (SLOTS - 1);
            if self.occupied[level] & (1 << index) == 0 {
                continue;
            }
            let place = level * SLOTS + index;
            while self.heads[place] != NIL {
                let slot = self.heads[place];
                self.unlink(slot);
                let due = tick_at_or_after(self.nodes[slot as usize].deadline);
                self.link(slot, due);
            }
        }
    }

    fn link(&mut self, slot: u32, tick: u64) {
        let tick = tick.max(self.now_tick);
        let place = self.place_of(tick);
        let head = self.heads[place];
        self.nodes[slot as usize].prev = NIL;
        self.nodes[slot as usize].next = head;
        self.nodes[slot as usize].place = place as u16;
        self.nodes[slot as usize].linked_tick = tick;
        if head != NIL {
            self.nodes[head as usize].prev = slot;
        }
        self.heads[place] = slot;
        self.occupied[place / SLOTS] |= 1 << (place % SLOTS);
        self.armed += 1;
    }

    fn unlink(&mut self, slot: u32) {
        let Node { prev, next, place, .. } = self.nodes[slot as usize];
        let place = place as usize;
        if prev == NIL {
            self.heads[place] = next;
            if next == NIL {
                self.occupied[place / SLOTS] &= !(1 << (place % SLOTS));
            }
        } else {
            self.nodes[prev as usize].next = next;
        }
        if next != NIL {
            self.nodes[next as usize].prev = prev;
        }
        self.nodes[slot as usize].place = UNLINKED;
        self.armed -= 1;
    }

    /// The level is the highest 6-bit digit in which the tick differs from now. Ticks beyond the top level go to
    /// its last slot and are cascaded from there.
    fn place_of(&self, tick: u64) -> usize {
        let span = 1u64 << (SLOT_BITS * LEVELS as u32);
        let tick = tick.min(self.now_tick | (span - 1));
        let differing = (tick ^ self.now_tick) | (SLOTS as u64 - 1);
        let level = ((63 - differing.leading_zeros()) / SLOT_BITS) as usize;
        level * SLOTS + ((tick >> (SLOT_BITS * level as u32)) as usize & (SLOTS - 1))
    }
}

/// Rounds up: a timer that fires too early would find nothing due and never fire again.
fn tick_at_or_after(at: Time) -> u64 {
    at.0.div_ceil(TICK_US)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn fired(wheel: &mut Wheel, now: Time) -> Vec<u32> {
        let mut slots: Vec<u32> = std::iter::from_fn(|| wheel.expired(now)).collect();
        slots.sort_unstable();
        slots
    }

    #[test]
    fn fires_at_its_tick_and_not_before() {
        let mut wheel = Wheel::default();
        wheel.arm(3, Time(5_001));
        assert_eq!(fired(&mut wheel, Time(5_999)), [0u32; 0]);
        assert_eq!(fired(&mut wheel, Time(6_000)), [3]);
        assert_eq!(wheel.armed(), 0);
    }

    #[test]
    fn a_later_deadline_applies_without_relinking() {
        let mut wheel = Wheel::default();
        wheel.arm(0, Time::from_ms(10));
        wheel.arm(0, Time::from_ms(5_000));
        assert_eq!(fired(&mut wheel, Time::from_ms(4_999)), [0u32; 0]);
        assert_eq!(fired(&mut wheel, Time::from_ms(5_000)), [0]);
    }

    #[test]
    fn an_earlier_deadline_replaces_a_later_one() {
        let mut wheel = Wheel::default();
        wheel.arm(0, Time::from_ms(5_000));
        wheel.arm(0, Time::from_ms(10));
        assert!(wheel.next_deadline().unwrap() <= Time::from_ms(10));
        assert_eq!(fired(&mut wheel, Time::from_ms(10)), [0]);
        assert_eq!(fired(&mut wheel, Time::from_ms(6_000)), [0u32; 0]);
    }

    #[test]
    fn a_deadline_in_the_past_fires_immediately() {
        let mut wheel = Wheel::default();
        fired(&mut wheel, Time::from_ms(1_000_000));
        wheel.arm(9, Time::from_ms(3));
        assert_eq!(fired(&mut wheel, Time::from_ms(1_000_000)), [9]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arm(u32, u64),
        Cancel(u32),
        Advance(u64),
        ToNextDeadline,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let span = prop_oneof![0u64..3_000, 0u64..200_000, 0u64..400_000_000, 0u64..100_000_000_000];
        let step = prop_oneof![
            4 => (0u32..24, span.clone()).prop_map(|(slot, us)| Step::Arm(slot, us)),
            1 => (0u32..24).prop_map(Step::Cancel),
            2 => span.prop_map(Step::Advance),
            2 => Just(Step::ToNextDeadline),
        ];
        prop::collection::vec(step, 1..120)
    }

    proptest! {
        /// The oracle is a map from slot to deadline.
        #[test]
        fn agrees_with_a_naive_oracle(steps in steps()) {
            let mut wheel = Wheel::default();
            let mut oracle: BTreeMap<u32, Time> = BTreeMap::new();
            let mut now = Time(0);
            for step in steps {
                match step {
                    Step::Arm(slot, us) => {
                        wheel.arm(slot, now.plus_us(us));
                        oracle.insert(slot, now.plus_us(us));
                    }
                    Step::Cancel(slot) => {
                        wheel.cancel(slot);
                        oracle.remove(&slot);
                    }
                    Step::Advance(us) => now = now.plus_us(us),
                    Step::ToNextDeadline => {
                        if let Some(at) = wheel.next_deadline() {
                            now = now.max(at);
                        }
                    }
                }
                let due_slots = fired(&mut wheel, now);
                let whole_ticks = now.0 / TICK_US;
                let due: Vec<u32> = oracle
                    .iter()
                    .filter(|(_, at)| tick_at_or_after(**at) <= whole_ticks)
                    .map(|(slot, _)| *slot)
                    .collect();
                prop_assert_eq!(&due_slots, &due);
                for slot in &due_slots {
                    prop_assert!(oracle[slot] <= now, "fired early");
                    oracle.remove(slot);
                }
                prop_assert_eq!(wheel.armed(), oracle.len());
                let first = oracle.values().min().map(|at| Time(tick_at_or_after(*at) * TICK_US));
                match (wheel.next_deadline(), first) {
                    (Some(next), Some(first)) => prop_assert!(next <= first),
                    (next, first) => prop_assert_eq!(next.is_none(), first.is_none()),
                }
            }
        }
    }
}
