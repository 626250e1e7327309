//! Watches the server's core for stalls that are not the server's fault.
//!
//! A hypervisor that takes a core need not report it, and the load only sees late answers, which may be the server's
//! fault. So a thread on that core with a higher priority than the server sleeps for short times. If it wakes up late,
//! neither the server's code nor another process delayed it, since it preempts them all. The kernel does not preempt
//! itself (a long system call of the server, a softirq). Then an interrupt woke the thread on time and it waited to run;
//! the kernel counts that separately, and it is not a stall. Code that disables interrupts looks like a stall.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};
use nix::unistd::Pid;

use crate::stalls::{STALL_MIN, STALLS, Stall};

/// Shorter than the shortest counted stall. Waking up half as often would disturb the core's idle states as much, which
/// is most of the watch's cost, and would see less.
const STEP: Duration = Duration::from_micros(250);
/// The server has priority 1.
const PRIORITY: i32 = 2;

pub struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Vec<Stall>>>,
}

impl Watch {
    /// # Errors
    /// Real-time priority needs root, and the core must exist.
    pub fn begin(cpu: usize) -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let (placed, is_placed) = mpsc::channel();
        let thread = {
            let over = over.clone();
            thread::spawn(move || match place(cpu) {
                Ok(schedstat) => {
                    let _ = placed.send(Ok(()));
                    watch(&over, &schedstat)
                }
                Err(error) => {
                    let _ = placed.send(Err(error));
                    Ok(Vec::new())
                }
            })
        };
        is_placed.recv().map_err(io::Error::other)??;
        Ok(Watch { over, thread })
    }

    /// Ends the watch and returns the stalls.
    ///
    /// # Errors
    /// The thread could not sleep.
    pub fn end(self) -> io::Result<Vec<Stall>> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| io::Error::other("the watch ended"))?
    }
}

/// Moves this thread to the core, above all others: first the priority, since the core may be busy. Returns the kernel's
/// statistics file of the thread.
fn place(cpu: usize) -> io::Result<File> {
    let param = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: `param` lives over the call; 0 is this thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &param) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &cpus)?;
    let schedstat = File::open("/proc/thread-self/schedstat")?;
    waited_to_run(&schedstat)?;
    Ok(schedstat)
}

/// Sleeps until absolute times, so that delays do not add up. A real-time thread's timers have no slack.
fn watch(over: &AtomicBool, schedstat: &File) -> io::Result<Vec<Stall>> {
    let clock = ClockId::CLOCK_MONOTONIC;
    let mut stalls = Vec::with_capacity(STALLS);
    let mut waited_before = waited_to_run(schedstat)?;
    let mut due = Duration::from(clock_gettime(clock)?);
    while !over.load(Ordering::Relaxed) {
        due += STEP;
        match clock_nanosleep(clock, ClockNanosleepFlags::TIMER_ABSTIME, &TimeSpec::from(due)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let (came, now) = (Instant::now(), Duration::from(clock_gettime(clock)?));
        let waited = waited_to_run(schedstat)?;
        let late = now.saturating_sub(due);
        let woken_late = late.saturating_sub(waited - waited_before);
        if woken_late >= STALL_MIN {
            stalls.push(Stall { from: came - late, to: came - late + woken_late });
        }
        // Skips missed wake-ups, which are part of this stall.
        if late >= STEP {
            due = now;
        }
        waited_before = waited;
    }
    Ok(stalls)
}

/// How long this thread has waited to run so far.
fn waited_to_run(schedstat: &File) -> io::Result<Duration> {
    let mut text = [0; 64];
    let length = schedstat.read_at(&mut text, 0)?;
    let text = str::from_utf8(&text[..length]).map_err(io::Error::other)?;
    let nanos = text.split_whitespace().nth(1).and_then(|field| field.parse().ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| io::Error::other("no time waited in schedstat"))
}
