//! A kernel with just enough in it for a worker to run: facts that a test feeds, a sleep that lasts
//! until there is one, and no clock: whoever sleeps is woken or sleeps for ever, which loom reports.

use crate::broker::contract::Side;
use crate::broker::io::{ConnId, Input, Payload, SendConfirm};
use crate::engine::{Engine, Sleep, Wake};
use loom::sync::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the kernel tells a worker of the connection on this slot.
#[derive(Clone, Copy, Debug)]
pub enum Fact {
    Accepted(u32),
    Received(u32, &'static [u8]),
    Sent(u32),
    Closed(u32),
    Reset(u32),
}

/// What a test can see of one worker's kernel.
#[derive(Default)]
pub struct Seen {
    facts: VecDeque<Fact>,
    woken: bool,
    /// Wake-ups by others.
    pub wakes: usize,
    /// Waits, whether they slept or not.
    pub waits: usize,
    /// The worker sleeps and has been told everything.
    pub asleep: bool,
    /// Facts that the worker has been told.
    pub told: usize,
    /// Responses: where to, and with which bytes.
    pub sent: Vec<(u32, Payload)>,
    /// Connections closed or reset by the worker, or given up by the peer.
    pub closed: usize,
    /// Receipts of commands.
    pub receipts: usize,
}

/// Timeouts up to here, the next turn's duties, are over when they begin; longer ones never are.
const AT_ONCE: Duration = Duration::from_micros(1);
/// More than the microsecond that times are counted in.
const CLOCK_STEP: Duration = Duration::from_micros(2);

/// One worker's kernel.
#[derive(Clone)]
pub struct Kernel(Arc<(Mutex<Seen>, Condvar)>);

impl Kernel {
    pub fn new() -> Kernel {
        Kernel(Arc::new((Mutex::new(Seen::default()), Condvar::new())))
    }

    /// Tells the worker, and wakes it if it sleeps, as an interrupt would.
    pub fn feed(&self, facts: &[Fact]) {
        self.change(|seen| {
            seen.facts.extend(facts);
            seen.asleep = false;
        });
    }

    /// Blocks the test until the worker has come so far.
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

    /// Blocks the test until this holds.
    pub fn until_true(&self, holds: impl Fn(&Seen) -> bool) {
        self.until(|seen| holds(seen).then_some(()));
    }

    /// A look.
    pub fn look<R>(&self, at: impl FnOnce(&Seen) -> R) -> R {
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
            seen.asleep = false;
            seen.wakes += 1;
            // The next wait's arming is the latest that can have been answered.
            assert!(seen.wakes <= seen.waits + 1, "one sleep was ended twice");
        });
    }
}

/// The engine on top: what is asked of it is done at once.
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

impl Sleep for Kernel {
    fn sleep(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        // The worker's clock is the real one. It moves in every wait, so that what is due in the next
        // turn is due in every execution.
        let began = Instant::now();
        while began.elapsed() < CLOCK_STEP {}
        let (seen, changed) = &*self.0;
        let mut seen = seen.lock().unwrap();
        seen.waits += 1;
        if timeout.is_none_or(|timeout| timeout > AT_ONCE) {
            while !seen.woken && seen.facts.is_empty() {
                seen.asleep = true;
                changed.notify_all();
                seen = changed.wait(seen).unwrap();
            }
        }
        seen.woken = false;
        seen.asleep = false;
        changed.notify_all();
        Ok(())
    }
}

impl Engine for OnKernel {
    type Sleeper = Kernel;

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
    fn shutdown(&mut self, _: ConnId) {}
    fn probe(&mut self, _: ConnId) {}
    fn has_unread(&mut self, _: ConnId) -> bool {
        false
    }
    fn stop_accepting(&mut self) {}

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut sleeper = self.kernel.clone();
        sleeper.sleep(self.blocks_for(timeout))?;
        self.slept(&mut sleeper);
        Ok(())
    }

    fn take_blocker(&mut self) -> Option<Kernel> {
        Some(self.kernel.clone())
    }

    fn blocks_for(&mut self, timeout: Option<Duration>) -> Option<Duration> {
        if self.ready.is_empty() { timeout } else { Some(Duration::ZERO) }
    }

    fn slept(&mut self, _: &mut Kernel) {
        self.kernel.change(|seen| {
            seen.told += seen.facts.len();
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
