//! A minimal kernel for a worker: a test feeds it facts, and the worker blocks until there is one. It has no clock: a
//! thread that no other thread wakes blocks forever, which loom reports.

use crate::broker::contract::Side;
use crate::broker::io::{ConnId, Input, Payload, SendConfirm};
use crate::engine::{Blocker, Engine, Wake};
use loom::sync::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the kernel reports of the connection in this slot.
#[derive(Clone, Copy, Debug)]
pub enum Fact {
    Accepted(u32),
    Received(u32, &'static [u8]),
    Sent(u32),
    Closed(u32),
    Reset(u32),
}

/// What a test sees of one worker's kernel.
#[derive(Default)]
pub struct Seen {
    facts: VecDeque<Fact>,
    woken: bool,
    /// Wake-ups by other threads.
    pub wakes: usize,
    /// Waits, whether they blocked or not.
    pub waits: usize,
    /// The worker's thread blocks, and the kernel has reported everything.
    pub blocked: bool,
    /// Facts that the kernel has reported.
    pub reported: usize,
    /// Responses, with the slot of each.
    pub sent: Vec<(u32, Payload)>,
    /// Connections that the worker has closed or reset.
    pub closed: usize,
    pub replies: usize,
}

/// A block with a timeout up to this ends immediately, because a timer is due in the next turn. A longer block never
/// times out.
const IMMEDIATE: Duration = Duration::from_micros(1);
/// More than a microsecond, the unit of the worker's clock.
const CLOCK_STEP: Duration = Duration::from_micros(2);

#[derive(Clone)]
pub struct Kernel(Arc<(Mutex<Seen>, Condvar)>);

impl Kernel {
    pub fn new() -> Kernel {
        Kernel(Arc::new((Mutex::new(Seen::default()), Condvar::new())))
    }

    /// Reports facts to the worker, and wakes it if it blocks, as an interrupt would.
    pub fn feed(&self, facts: &[Fact]) {
        self.change(|seen| {
            seen.facts.extend(facts);
            seen.blocked = false;
        });
    }

    /// Blocks the test until `found` returns a value.
    pub fn until<R>(&self, found: impl Fn(&Seen) -> Option<R>) -> R {
        let (seen, changed) = &*self.0;
        let mut seen = seen.lock().unwrap();
        loop {
            match found(&seen) {
                Some(result) => return result,
                None => seen = changed.wait(seen).unwrap(),
            }
        }
    }

    /// Blocks the test until `holds` is true.
    pub fn until_true(&self, holds: impl Fn(&Seen) -> bool) {
        self.until(|seen| holds(seen).then_some(()));
    }

    pub fn see<R>(&self, at: impl FnOnce(&Seen) -> R) -> R {
        at(&self.0.0.lock().unwrap())
    }

    pub fn change(&self, how: impl FnOnce(&mut Seen)) {
        how(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }
}

impl Wake for Kernel {
    fn wake(&self) {
        self.change(|seen| {
            seen.woken = true;
            seen.blocked = false;
            seen.wakes += 1;
            // The latest wake-up may belong to the next wait, which has not begun to block yet.
            assert!(seen.wakes <= seen.waits + 1, "one block was ended twice");
        });
    }
}

/// The engine on top: it carries out every request immediately.
pub struct OnKernel {
    kernel: Kernel,
    ready: VecDeque<Fact>,
}

impl OnKernel {
    pub fn new(kernel: &Kernel) -> OnKernel {
        OnKernel { kernel: kernel.clone(), ready: VecDeque::new() }
    }
}

fn id(slot: u32) -> ConnId {
    ConnId { slot, generation: 1 }
}

impl Blocker for Kernel {
    fn block(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        // The worker's clock is the real one. Every wait advances it, so that a timer that is due in the next turn is
        // due in every execution.
        let began = Instant::now();
        while began.elapsed() < CLOCK_STEP {}
        let (seen, changed) = &*self.0;
        let mut seen = seen.lock().unwrap();
        seen.waits += 1;
        if timeout.is_none_or(|timeout| timeout > IMMEDIATE) {
            while !seen.woken && seen.facts.is_empty() {
                seen.blocked = true;
                changed.notify_all();
                seen = changed.wait(seen).unwrap();
            }
        }
        seen.woken = false;
        seen.blocked = false;
        changed.notify_all();
        Ok(())
    }
}

impl Engine for OnKernel {
    type Blocker = Kernel;

    fn send(&mut self, conn: ConnId, payload: Payload, _: SendConfirm) {
        self.kernel.change(|seen| seen.sent.push((conn.slot, payload)));
        self.ready.push_back(Fact::Sent(conn.slot));
    }

    fn close(&mut self, _: ConnId) {
        self.kernel.change(|seen| seen.closed += 1);
    }

    fn abort(&mut self, conn: ConnId) {
        self.close(conn);
    }

    fn pause(&mut self, _: ConnId) {}
    fn resume(&mut self, _: ConnId) {}
    fn half_close(&mut self, _: ConnId) {}
    fn probe(&mut self, _: ConnId) {}
    fn has_unread(&mut self, _: ConnId) -> bool {
        false
    }
    fn stop_accepting(&mut self) {}

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut blocker = self.kernel.clone();
        blocker.block(self.block_timeout(timeout))?;
        self.after_block(&mut blocker);
        Ok(())
    }

    fn take_blocker(&mut self) -> Option<Kernel> {
        Some(self.kernel.clone())
    }

    fn block_timeout(&mut self, timeout: Option<Duration>) -> Option<Duration> {
        if self.ready.is_empty() { timeout } else { Some(Duration::ZERO) }
    }

    fn after_block(&mut self, _: &mut Kernel) {
        self.kernel.change(|seen| {
            seen.reported += seen.facts.len();
            self.ready.append(&mut seen.facts);
        });
    }

    fn next_fact(&mut self) -> Option<Input<'_>> {
        Some(match self.ready.pop_front()? {
            Fact::Accepted(slot) => Input::Accepted { conn: id(slot), side: Side::Runner },
            Fact::Received(slot, bytes) => Input::Received { conn: id(slot), bytes },
            Fact::Sent(slot) => Input::Sent { conn: id(slot) },
            Fact::Closed(slot) => Input::PeerClosed { conn: id(slot), facts: None },
            Fact::Reset(slot) => Input::Reset { conn: id(slot) },
        })
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(self.kernel.clone())
    }
}
