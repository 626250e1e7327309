//! Asks all workers for reports at once, and notices stalled workers.

use super::snapshot::{Snapshot, WorkerState};
use crate::broker::report::{Allowance, Command, KeyPage, KeyReport, WorkerReport};
use crate::workers::{Fleet, Observed};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout_at};

/// A worker that has not answered within this time is stalled.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// All clients that ask within this time share one report.
pub const REPORT_AGE_MAX: Duration = Duration::from_millis(100);

/// A worker's thread calls this with its report. It must not block.
pub type Reply = Arc<dyn Fn(WorkerReport) + Send + Sync>;

/// The workers, as the control plane sees them.
pub trait Workers: Send + Sync {
    /// Sends `command` to every worker. Each calls `reply` once.
    fn request(&self, command: Command, reply: Reply);
    /// The number of workers.
    fn workers(&self) -> usize;
    fn engine_name(&self) -> &'static str;
    /// The next event that a worker reported, if there is one, and its age.
    fn next_event(&self) -> Option<(Observed, Duration)>;
}

impl Workers for Fleet {
    fn request(&self, command: Command, reply: Reply) {
        Fleet::request(self, command, move |report| reply(report));
    }

    fn workers(&self) -> usize {
        Fleet::workers(self)
    }

    fn engine_name(&self) -> &'static str {
        Fleet::engine_name(self)
    }

    fn next_event(&self) -> Option<(Observed, Duration)> {
        Fleet::next_event(self)
    }
}

/// Asks the workers for reports and keeps the latest.
pub struct Reporter {
    workers: Arc<dyn Workers>,
    started: Instant,
    /// When each worker last answered any request, in microseconds after `started`.
    answered_us: Arc<[AtomicU64]>,
    latest: Mutex<Latest>,
}

struct Latest {
    taken: Option<Instant>,
    snapshot: Arc<Snapshot>,
}

impl Reporter {
    /// Call it when `workers` have just started: the uptime counts from now.
    pub fn new(workers: Arc<dyn Workers>) -> Self {
        let count = workers.workers();
        let unknown = |worker| WorkerState {
            report: WorkerReport { worker, ..WorkerReport::default() },
            stalled: true,
        };
        Reporter {
            workers,
            started: Instant::now(),
            answered_us: (0..count).map(|_| AtomicU64::new(0)).collect(),
            latest: Mutex::new(Latest {
                taken: None,
                snapshot: Arc::new(Snapshot { workers: (0..count).map(unknown).collect(), with_keys: false }),
            }),
        }
    }

    /// The time since the workers started to serve.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn engine_name(&self) -> &'static str {
        self.workers.engine_name()
    }

    /// The state of all workers, at most [`REPORT_AGE_MAX`] old. Callers at the same time share one request.
    pub async fn snapshot(&self, keys: bool) -> Arc<Snapshot> {
        let mut latest = self.latest.lock().await;
        let fresh = latest.taken.is_some_and(|taken| taken.elapsed() < REPORT_AGE_MAX);
        if fresh && (latest.snapshot.with_keys || !keys) {
            return latest.snapshot.clone();
        }
        let workers = match keys {
            true => self.gather_keys(&latest.snapshot).await,
            false => self.gather_numbers(None, &latest.snapshot).await,
        };
        latest.snapshot = Arc::new(Snapshot { workers, with_keys: keys });
        latest.taken = Some(Instant::now());
        latest.snapshot.clone()
    }

    /// Asks every worker for a new report, and lets it report as many dispatches as `dispatch_events` allows.
    pub async fn beat(&self, dispatch_events: Allowance) -> Arc<Snapshot> {
        let mut latest = self.latest.lock().await;
        let workers = self.gather_numbers(Some(dispatch_events), &latest.snapshot).await;
        latest.snapshot = Arc::new(Snapshot { workers, with_keys: false });
        latest.taken = Some(Instant::now());
        latest.snapshot.clone()
    }

    /// The next event that a worker reported, and its age.
    pub fn next_event(&self) -> Option<(Observed, Duration)> {
        self.workers.next_event()
    }

    /// Sends `command` to every worker. Returns the state after that. Workers that did not carry it out within a second
    /// are marked as stalled.
    pub async fn command(&self, command: Command) -> Arc<Snapshot> {
        let mut latest = self.latest.lock().await;
        let workers = self.gather(command, &latest.snapshot).await;
        latest.snapshot = Arc::new(Snapshot { workers, with_keys: false });
        latest.taken = None;
        latest.snapshot.clone()
    }

    /// Sends `command` to every worker without waiting.
    pub fn send(&self, command: Command) {
        self.workers.request(command, self.noting(|_| ()));
    }

    /// The workers that have not answered for longer than `silence`.
    pub fn silent(&self, silence: Duration) -> Vec<usize> {
        let now = self.started.elapsed();
        let answered = |worker: &AtomicU64| Duration::from_micros(worker.load(Ordering::Relaxed));
        let workers = self.answered_us.iter().enumerate();
        workers
            .filter(|(_, worker)| now.saturating_sub(answered(worker)) > silence)
            .map(|(index, _)| index)
            .collect()
    }

    async fn gather_numbers(
        &self,
        dispatch_events: Option<Allowance>,
        before: &Snapshot,
    ) -> Vec<WorkerState> {
        let mut workers = self.gather(Command::Report { keys: None, dispatch_events }, before).await;
        // A stalled worker has rows of an earlier report.
        workers.iter_mut().for_each(|worker| worker.report.keys.clear());
        workers
    }

    /// Asks for the keys page by page, so that no worker stops its work to write all of them. A worker that
    /// does not answer the last request keeps its rows of `before`.
    async fn gather_keys(&self, before: &Snapshot) -> Vec<WorkerState> {
        let mut rows: Vec<Vec<KeyReport>> = before.workers.iter().map(|_| Vec::new()).collect();
        let mut from = Some(0);
        let mut workers = Vec::new();
        while let Some(page) = from {
            let command = Command::Report { keys: Some(KeyPage { from: page }), dispatch_events: None };
            workers = self.gather(command, before).await;
            for (rows, worker) in rows.iter_mut().zip(&mut workers).filter(|(_, worker)| !worker.stalled) {
                rows.append(&mut worker.report.keys);
            }
            let answered = workers.iter().filter(|worker| !worker.stalled);
            from = answered.filter_map(|worker| worker.report.next_page).min();
        }
        for (rows, worker) in rows.into_iter().zip(&mut workers) {
            if !worker.stalled {
                worker.report.keys = rows;
            }
        }
        workers
    }

    async fn gather(&self, command: Command, before: &Snapshot) -> Vec<WorkerState> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let (sender, mut answers) = mpsc::unbounded_channel();
        let reply = self.noting(move |report| drop(sender.send(report)));
        self.workers.request(command, reply);
        let mut workers = before.workers.clone();
        workers.iter_mut().for_each(|worker| worker.stalled = true);
        let mut missing = workers.len();
        // `None`: the remaining workers have ended and dropped the request.
        while missing > 0
            && let Ok(Some(report)) = timeout_at(deadline, answers.recv()).await
        {
            if let Some(worker) = workers.get_mut(report.worker) {
                missing -= usize::from(worker.stalled);
                *worker = WorkerState { report, stalled: false };
            }
        }
        workers
    }

    /// Notes the time of the answer, then calls `then`. Late answers count: that worker is slow, not dead.
    fn noting(&self, then: impl Fn(WorkerReport) + Send + Sync + 'static) -> Reply {
        let (answered, started) = (self.answered_us.clone(), self.started);
        Arc::new(move |report| {
            if let Some(worker) = answered.get(report.worker) {
                worker.store(started.elapsed().as_micros() as u64, Ordering::Relaxed);
            }
            then(report);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::fake_workers::{Behaviour, FakeWorkers};

    fn reporter(behaviours: &[Behaviour]) -> (Reporter, Arc<FakeWorkers>) {
        let workers = Arc::new(FakeWorkers::new(behaviours));
        (Reporter::new(workers.clone()), workers)
    }

    #[tokio::test(start_paused = true)]
    async fn clients_share_a_report_for_100_ms() {
        let (reporter, workers) = reporter(&[Behaviour::Answers, Behaviour::Answers]);
        for _ in 0..50 {
            let snapshot = reporter.snapshot(false).await;
            assert!(snapshot.stalled().is_empty());
        }
        assert_eq!(workers.requests(), 1);
        tokio::time::advance(REPORT_AGE_MAX).await;
        reporter.snapshot(false).await;
        assert_eq!(workers.requests(), 2);
        // The last snapshot had no rows per key.
        assert!(reporter.snapshot(true).await.with_keys);
        assert_eq!(workers.requests(), 3);
        reporter.snapshot(false).await;
        assert_eq!(workers.requests(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_worker_costs_a_second_and_keeps_its_last_numbers() {
        let (reporter, workers) = reporter(&[Behaviour::Answers, Behaviour::Answers]);
        let before = reporter.snapshot(false).await;
        assert_eq!(before.workers[1].report.waiting, 11);
        workers.set(1, Behaviour::Silent);
        tokio::time::advance(REPORT_AGE_MAX).await;
        let began = Instant::now();
        let snapshot = reporter.snapshot(false).await;
        assert_eq!(began.elapsed(), ANSWER_TIMEOUT);
        assert_eq!(snapshot.stalled(), [1]);
        assert_eq!(snapshot.workers[1].report.waiting, 11);
        assert_eq!(snapshot.total(|worker| worker.waiting), 21);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_has_ended_costs_no_time() {
        let (reporter, workers) = reporter(&[Behaviour::Answers, Behaviour::Answers]);
        workers.set(0, Behaviour::Ended);
        let began = Instant::now();
        let snapshot = reporter.snapshot(false).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(snapshot.stalled(), [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_last_answer_even_if_it_was_late() {
        let (reporter, workers) = reporter(&[Behaviour::Answers, Behaviour::Silent]);
        let limit = Duration::from_secs(5);
        // Each request waits a second for the stalled worker; then the report ages.
        for request in 1..=6 {
            reporter.snapshot(false).await;
            assert_eq!(reporter.silent(limit).is_empty(), request < 5);
            tokio::time::advance(REPORT_AGE_MAX).await;
        }
        assert_eq!(reporter.silent(limit), [1]);
        workers.answer_late();
        assert!(reporter.silent(limit).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_makes_the_next_snapshot_a_new_one() {
        let (reporter, workers) = reporter(&[Behaviour::Answers]);
        reporter.snapshot(false).await;
        let snapshot = reporter.command(Command::ShutDown).await;
        assert!(snapshot.workers[0].report.shutting_down);
        reporter.snapshot(false).await;
        assert_eq!(workers.requests(), 3);
    }
}
