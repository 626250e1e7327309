//! The service manager's watchdog (WatchdogSec= in a systemd unit).
//!
//! A healthy control thread proves nothing about the workers. A worker that hangs keeps its runners' connections and
//! matches none of them. So the watchdog does not ping while a worker does not answer, and the service manager restarts
//! the process.

use super::manager;
use crate::control::state::ControlState;
use crate::sys::notify;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::interval;
use tracing::error;

/// The observer asks once a second, and an answer may take a second. A shorter silence is normal.
const SILENCE_MIN: Duration = Duration::from_secs(3);

/// If the service manager has a watchdog, pings it until the process ends.
pub async fn run(state: Arc<ControlState>) {
    if let Some(timeout) = notify::watchdog_timeout() {
        ping_while_healthy(&state, timeout, || manager::report(notify::alive())).await;
    }
}

/// Does not ping while a worker has not answered for half of `timeout`, or 3 s if that is longer. So the process ends
/// at most this time plus `timeout` after a worker's last answer.
async fn ping_while_healthy(state: &ControlState, timeout: Duration, mut ping: impl FnMut()) {
    let silence_max = SILENCE_MIN.max(timeout / 2);
    let mut beat = interval(timeout / 4);
    let mut logged = Vec::new();
    loop {
        beat.tick().await;
        let stalled = state.stalled(silence_max);
        if stalled.is_empty() {
            ping();
        } else if stalled != logged {
            error!(workers = ?stalled, "these workers do not answer: no watchdog ping until they do");
        }
        logged = stalled;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::report::Command;
    use crate::control::state::Reporter;
    use crate::control::tests::fake_workers::{Behaviour, FakeWorkers, starting_state};
    use std::cell::Cell;
    use tokio::time::{Instant, sleep, timeout};

    const TIMEOUT: Duration = Duration::from_secs(20);

    fn serving(workers: &Arc<FakeWorkers>) -> ControlState {
        let state = starting_state();
        state.set_serving(Reporter::new(workers.clone()));
        state
    }

    /// Runs the watchdog for `time`, with reports every second. Returns the time of the last ping and the longest pause.
    async fn pings(state: &ControlState, time: Duration) -> (Duration, Duration) {
        let began = Instant::now();
        let (last, longest) = (Cell::new(Duration::ZERO), Cell::new(Duration::ZERO));
        let ping = || {
            let now = began.elapsed();
            longest.set(longest.get().max(now - last.replace(now)));
        };
        let reports = async {
            loop {
                state
                    .reporter()
                    .expect("serving")
                    .send(Command::Report { keys: None, dispatch_events: None });
                sleep(Duration::from_secs(1)).await;
            }
        };
        let both = async {
            tokio::select! {
                () = ping_while_healthy(state, TIMEOUT, ping) => (),
                () = reports => (),
            }
        };
        let _ = timeout(time, both).await;
        (last.get(), longest.get())
    }

    #[tokio::test(start_paused = true)]
    async fn pings_come_in_time_while_workers_answer() {
        let state = serving(&Arc::new(FakeWorkers::new(&[Behaviour::Answers, Behaviour::Answers])));
        let (last, longest) = pings(&state, TIMEOUT * 10).await;
        assert!(last > TIMEOUT * 9, "{last:?}");
        // systemd.service(5): every half of the timeout.
        assert!(longest <= TIMEOUT / 2, "{longest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_silent_worker_stops_the_pings() {
        let workers = Arc::new(FakeWorkers::new(&[Behaviour::Answers, Behaviour::Answers]));
        let state = serving(&workers);
        pings(&state, TIMEOUT).await;
        workers.set(1, Behaviour::Silent);
        let (last, _) = pings(&state, TIMEOUT * 10).await;
        assert!(last <= TIMEOUT / 2, "{last:?}");
        // It was slow, not dead.
        workers.set(1, Behaviour::Answers);
        let (last, _) = pings(&state, TIMEOUT * 2).await;
        assert!(last > TIMEOUT, "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn workers_that_end_in_a_shutdown_do_not_stop_the_pings() {
        let workers = Arc::new(FakeWorkers::new(&[Behaviour::Answers]));
        let state = serving(&workers);
        state.set_shutting_down();
        workers.set(0, Behaviour::Ended);
        let (last, _) = pings(&state, TIMEOUT * 10).await;
        assert!(last > TIMEOUT * 9, "{last:?}");
    }
}
