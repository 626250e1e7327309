//! A watch on the core that a server has: whether something takes it that the server cannot help.
//!
//! A hypervisor that takes a core need not say so, and of a server's core nothing else tells: a load sees late answers,
//! which may be the server's own doing. A thread that goes before the server there, sleeps for moments and comes late
//! was not kept by the server's code nor by the machine's other processes, all of which it preempts. Where the kernel
//! preempts nothing while it works for someone (a long system call of the server's, a softirq), the thread was woken on
//! time all the same, by an interrupt, and only waited to run: the kernel counts that apart, and it is no stall.
//! What holds back interrupts cannot be told from a stall.

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

/// Shorter than the shortest stall that counts. Half as often would change as much of how the core idles, which is most of what
/// a watch costs, and see less.
const STEP: Duration = Duration::from_micros(250);
/// The server's is 1.
const PRIORITY: i32 = 2;

pub struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Vec<Stall>>>,
}

impl Watch {
    /// # Errors
    /// Real-time priority takes root, and there must be such a core.
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

    /// What it saw.
    ///
    /// # Errors
    /// It could not sleep.
    pub fn end(self) -> io::Result<Vec<Stall>> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| io::Error::other("the watch ended"))?
    }
}

/// Puts this thread there, before all others: first the priority, for the core may be busy. Answers what the kernel counts of
/// it.
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

/// By absolute times, so that what each turn takes adds nothing. A real-time thread's timers have no slack.
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
        // Those that it missed are no stalls of their own.
        if late >= STEP {
            due = now;
        }
        waited_before = waited;
    }
    Ok(stalls)
}

/// How long this thread has been awake without running, so far.
fn waited_to_run(schedstat: &File) -> io::Result<Duration> {
    let mut text = [0; 64];
    let length = schedstat.read_at(&mut text, 0)?;
    let text = str::from_utf8(&text[..length]).map_err(io::Error::other)?;
    let nanos = text.split_whitespace().nth(1).and_then(|field| field.parse().ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| io::Error::other("no time waited in schedstat"))
}
