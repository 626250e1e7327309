//! The service manager's watchdog (WatchdogSec= in a systemd unit).
//!
//! A control thread that is well proves nothing about the workers: one that hangs keeps its runners'
//! connections and matches none of them. So the ping is withheld as soon as one of them is silent, and
//! the service manager restarts the process.

use super::admin::Admin;
use super::lifecycle::tell_manager;
use crate::sys::notify;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::interval;
use tracing::error;

/// Workers are asked once a second and an answer may take one: less silence than this says nothing.
const SILENCE_MIN: Duration = Duration::from_secs(3);

/// Pings until the process ends, if the service manager expects it.
pub async fn watch(admin: Arc<Admin>) {
    if let Some(timeout) = notify::watchdog_timeout() {
        ping_while_well(&admin, timeout, || tell_manager(notify::alive())).await;
    }
}

/// A worker that has been silent for half of `timeout` is not pinged for: the process ends at most one and
/// a half of `timeout` after a worker's last answer (with a `timeout` below 6 s: `timeout` and 3 s after).
async fn ping_while_well(admin: &Admin, timeout: Duration, mut ping: impl FnMut()) {
    let silence_max = SILENCE_MIN.max(timeout / 2);
    let mut beat = interval(timeout / 4);
    let mut said = Vec::new();
    loop {
        beat.tick().await;
        let stalled = admin.stalled(silence_max);
        if stalled.is_empty() {
            ping();
        } else if stalled != said {
            error!(workers = ?stalled, "silent: the watchdog is not pinged while they are");
        }
        said = stalled;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeWorkers, Manner};
    use super::super::workers::Reporter;
    use super::*;
    use crate::broker::report::Command;
    use std::cell::Cell;
    use tokio::time::{Instant, sleep, timeout};

    const TIMEOUT: Duration = Duration::from_secs(20);

    fn admin(workers: &Arc<FakeWorkers>) -> Admin {
        let admin = super::super::testing::admin();
        admin.serving(Reporter::new(workers.clone()));
        admin
    }

    /// Runs the watchdog and the workers' heartbeat for `time`; when the last ping was, and the longest pause.
    async fn pinged(admin: &Admin, time: Duration) -> (Duration, Duration) {
        let began = Instant::now();
        let (last, longest) = (Cell::new(Duration::ZERO), Cell::new(Duration::ZERO));
        let ping = || {
            let now = began.elapsed();
            longest.set(longest.get().max(now - last.replace(now)));
        };
        let heartbeat = async {
            loop {
                admin
                    .reporter()
                    .expect("serving")
                    .tell(Command::Report { keys: None, dispatch_events: None });
                sleep(Duration::from_secs(1)).await;
            }
        };
        let both = async {
            tokio::select! {
                () = ping_while_well(admin, TIMEOUT, ping) => (),
                () = heartbeat => (),
            }
        };
        let _ = timeout(time, both).await;
        (last.get(), longest.get())
    }

    #[tokio::test(start_paused = true)]
    async fn well_workers_are_pinged_for_in_time() {
        let admin = admin(&Arc::new(FakeWorkers::new(&[Manner::Answers, Manner::Answers])));
        let (last, longest) = pinged(&admin, TIMEOUT * 10).await;
        assert!(last > TIMEOUT * 9, "{last:?}");
        // systemd.service(5): every half of the timeout.
        assert!(longest <= TIMEOUT / 2, "{longest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_silent_worker_among_well_ones_is_not_pinged_for() {
        let workers = Arc::new(FakeWorkers::new(&[Manner::Answers, Manner::Answers]));
        let admin = admin(&workers);
        pinged(&admin, TIMEOUT).await;
        workers.now(1, Manner::Silent);
        let (last, _) = pinged(&admin, TIMEOUT * 10).await;
        assert!(last <= TIMEOUT / 2, "{last:?}");
        // It was slow, not dead.
        workers.now(1, Manner::Answers);
        let (last, _) = pinged(&admin, TIMEOUT * 2).await;
        assert!(last > TIMEOUT, "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn workers_that_end_in_a_drain_are_not_missed() {
        let workers = Arc::new(FakeWorkers::new(&[Manner::Answers]));
        let admin = admin(&workers);
        admin.shutting_down();
        workers.now(0, Manner::Ended);
        let (last, _) = pinged(&admin, TIMEOUT * 10).await;
        assert!(last > TIMEOUT * 9, "{last:?}");
    }
}
