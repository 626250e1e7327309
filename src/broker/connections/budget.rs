//! The budget for bytes in flight: bytes that peers have sent and that cannot be used yet, and runs that are
//! not delivered yet.
//!
//! All workers share the budget. Each worker leases from it in steps, so counting a request usually touches
//! only the worker's own numbers. Only one request in hundreds touches the shared number.
//!
//! Incomplete requests get at most [`INCOMPLETE_QUARTERS`] quarters of it, so a client that sends requests
//! without end does not stop requests that arrive complete.

use crate::broker::shared::Shared;

/// The step of leasing and returning.
const LEASE_BYTES: usize = 256 * 1024;
/// Quarters of the budget that incomplete requests may take.
const INCOMPLETE_QUARTERS: usize = 3;

/// The part of the budget that bytes may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Incomplete,
    All,
}

/// One worker's share of the budget.
#[derive(Debug)]
pub struct Budget {
    held: usize,
    leased: usize,
    bytes_max: usize,
}

impl Budget {
    /// `bytes_max`: the budget of all workers together.
    pub fn new(bytes_max: usize) -> Budget {
        Budget { held: 0, leased: 0, bytes_max }
    }

    /// Bytes counted on this worker.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether the lease covers all counted bytes.
    pub fn is_within(&self) -> bool {
        self.held <= self.leased
    }

    /// Counts `bytes` more, which are in memory already. Returns false if they exceed the budget: the caller must
    /// then free them.
    #[inline]
    pub fn hold(&mut self, shared: &impl Shared, bytes: usize, part: Part) -> bool {
        self.held += bytes;
        self.held <= self.leased || self.lease(shared, part)
    }

    #[cold]
    fn lease(&mut self, shared: &impl Shared, part: Part) -> bool {
        let bytes_max = match part {
            Part::Incomplete => self.bytes_max / 4 * INCOMPLETE_QUARTERS,
            Part::All => self.bytes_max,
        };
        let missing = (self.held - self.leased).next_multiple_of(LEASE_BYTES);
        let leased = shared.lease(missing, bytes_max);
        if leased {
            self.leased += missing;
        }
        leased
    }

    /// Counts `bytes` fewer.
    #[inline]
    pub fn release(&mut self, shared: &impl Shared, bytes: usize) {
        self.held -= bytes;
        // Keeps one step, so that small changes do not lease and return the same step repeatedly.
        if self.leased > self.held + 2 * LEASE_BYTES {
            self.give_back(shared);
        }
    }

    #[cold]
    fn give_back(&mut self, shared: &impl Shared) {
        let kept = self.held.next_multiple_of(LEASE_BYTES) + LEASE_BYTES;
        shared.give_back(self.leased - kept);
        self.leased = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::io::WorkerSet;
    use std::cell::Cell;

    #[derive(Default)]
    struct Taken(Cell<usize>);

    impl Shared for Taken {
        fn buckets(&self) -> usize {
            1
        }
        fn announce(&self, _: usize, _: usize) {}
        fn withdraw(&self, _: usize, _: usize) {}
        fn holders(&self, _: usize) -> WorkerSet {
            WorkerSet(0)
        }
        fn open_connection(&self, _: usize) -> bool {
            true
        }
        fn close_connection(&self) {}
        fn open_connections(&self) -> usize {
            0
        }
        fn open_from(&self, _: u32, _: u32) -> bool {
            true
        }
        fn close_from(&self, _: u32) {}
        fn lease(&self, bytes: usize, bytes_max: usize) -> bool {
            let fits = self.0.get() + bytes <= bytes_max;
            self.0.set(self.0.get() + if fits { bytes } else { 0 });
            fits
        }
        fn give_back(&self, bytes: usize) {
            self.0.set(self.0.get() - bytes);
        }
    }

    const STEP: usize = LEASE_BYTES;

    #[test]
    fn incomplete_requests_leave_a_quarter_to_others() {
        let shared = Taken::default();
        let (mut one, mut other) = (Budget::new(8 * STEP), Budget::new(8 * STEP));
        assert!(one.hold(&shared, 5 * STEP, Part::Incomplete));
        assert!(other.hold(&shared, 1, Part::Incomplete));
        assert!(!other.hold(&shared, STEP, Part::Incomplete));
        other.release(&shared, STEP);
        assert!(other.hold(&shared, 2 * STEP, Part::All));
        assert!(!one.hold(&shared, 1, Part::All));
        one.release(&shared, 1);
        assert_eq!(shared.0.get(), 8 * STEP);
    }

    #[test]
    fn released_bytes_are_returned_except_for_one_step() {
        let shared = Taken::default();
        let mut budget = Budget::new(64 * STEP);
        for _ in 0..3 {
            assert!(budget.hold(&shared, 40 * STEP, Part::All));
            budget.release(&shared, 40 * STEP);
            assert_eq!((budget.held(), shared.0.get()), (0, STEP));
        }
        for _ in 0..1_000 {
            assert!(budget.hold(&shared, 2_000, Part::All));
            budget.release(&shared, 2_000);
        }
        assert_eq!(shared.0.get(), STEP, "small changes do not touch the shared number");
    }

    #[test]
    fn refused_bytes_are_counted_until_released() {
        let shared = Taken::default();
        let mut budget = Budget::new(4 * STEP);
        assert!(!budget.hold(&shared, 5 * STEP, Part::All));
        assert!(!budget.hold(&shared, 1, Part::All));
        budget.release(&shared, 5 * STEP);
        assert!(budget.hold(&shared, STEP, Part::Incomplete));
        budget.release(&shared, STEP + 1);
        assert_eq!(budget.held(), 0);
    }
}
