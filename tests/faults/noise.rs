//! Measures how late this machine schedules threads, so that other load does not break a bound on the
//! broker's times. A thread sleeps for 1 ms again and again and records the longest delay.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The allowance without any other load.
const ALWAYS: Duration = Duration::from_millis(150);
/// An answer passes this many threads, and each may have to wait.
const HOPS: u32 = 4;
const NAP: Duration = Duration::from_millis(1);

/// Measures from its creation on.
pub struct Noise {
    worst_us: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Noise {
    pub fn measure() -> Noise {
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

    /// How much a time may exceed its bound.
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
