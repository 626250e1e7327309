//! What a worker measures, and the events that it may emit.

use super::contract;
use super::event::Origin;
use super::report::{Allowance, Times};

/// Measured times, and the events that the control thread wants.
pub struct Watch {
    pub times: Times,
    /// All events are wanted, for the log.
    every_event: bool,
    /// How many dispatches may still be reported before the control thread renews the allowance.
    allowance: Allowance,
    /// Traces are collected.
    traces: bool,
}

impl Watch {
    pub fn new(every_event: bool) -> Self {
        let allowance = Allowance { any: if every_event { u32::MAX } else { 0 }, traced: 0 };
        Watch { times: Times::default(), every_event, allowance, traces: false }
    }

    /// Sets the control thread's new allowance.
    pub fn set_allowance(&mut self, Allowance { any, traced }: Allowance) {
        let any = if self.every_event { u32::MAX } else { any };
        self.allowance = Allowance { any, traced };
        self.traces = traced > 0;
    }

    /// Whether the next dispatch may be reported.
    #[inline]
    pub fn wants_dispatches(&self) -> bool {
        (self.allowance.any | self.allowance.traced) > 0
    }

    /// The origin of a dispatch, if it may be reported; uses up the allowance. Counts in `untraced` a
    /// dispatch that may have a trace and is not reported.
    #[inline]
    pub fn origin(
        &mut self,
        run_id: Option<&str>,
        traceparent: Option<&str>,
        untraced: &mut u64,
    ) -> Option<Box<Origin>> {
        if self.wants_dispatches() {
            return self.wanted_origin(run_id, traceparent, untraced);
        }
        *untraced += u64::from(self.traces);
        None
    }

    #[cold]
    #[inline(never)]
    fn wanted_origin(
        &mut self,
        run_id: Option<&str>,
        traceparent: Option<&str>,
        untraced: &mut u64,
    ) -> Option<Box<Origin>> {
        let sampled = self.traces && traceparent.is_some_and(contract::is_sampled);
        let traced = sampled && self.allowance.traced > 0;
        self.allowance.traced -= u32::from(traced);
        *untraced += u64::from(sampled && !traced);
        if self.allowance.any == 0 && !traced {
            return None;
        }
        self.allowance.any = self.allowance.any.saturating_sub(1);
        Some(Box::new(Origin { run: run_id.map(Box::from), traceparent: traceparent.map(Box::from), traced }))
    }
}
