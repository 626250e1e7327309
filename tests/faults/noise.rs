//! How late this machine is at present, so that a bound on the broker's times is not broken by
//! whatever else runs here: a thread sleeps for a millisecond over and over, and notes by how much
//! each sleep was too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Allowed even where nothing else runs.
const ALWAYS: Duration = Duration::from_millis(150);
/// An answer takes some threads in turn, and each of them may have to wait its turn.
const HOPS: u32 = 4;
const NAP: Duration = Duration::from_millis(1);

/// Measures from its making on.
pub struct Noise {
    worst_us: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Noise {
    pub fn listen() -> Noise {
        let (worst_us, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (worst_us, ended) = (worst_us.clone(), ended.clone());
            move || {
                while !ended.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    thread::sleep(NAP);
                    let late = began.elapsed().saturating_sub(NAP);
                    worst_us.fetch_max(late.as_micros() as u64, Ordering::Relaxed);
                }
            }
        });
        Noise { worst_us, ended, thread: Some(thread) }
    }

    /// What may be added to a bound.
    pub fn allowance(&self) -> Duration {
        ALWAYS + HOPS * Duration::from_micros(self.worst_us.load(Ordering::Relaxed))
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
