//! Asking all workers at once, and noticing one that is silent.

use crate::broker::report::{Allowance, Command, KeyPage, KeyReport, WorkerReport};
use crate::workers::{Fleet, Observed};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout_at};

/// A worker that has not answered within this is left out of the answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// A report is asked for at most this often, however many scrapers there are.
pub const REPORT_AGE_MAX: Duration = Duration::from_millis(100);

/// Called from a worker's thread with its answer; must not block.
pub type Reply = Arc<dyn Fn(WorkerReport) + Send + Sync>;

/// The workers, as far as the control plane is concerned.
pub trait Workers: Send + Sync {
    /// Sends `command` to every worker; each calls `reply` once.
    fn request(&self, command: Command, reply: Reply);
    /// How many there are.
    fn workers(&self) -> usize;
    /// What moves their bytes.
    fn engine_name(&self) -> &'static str;
    /// The next thing that one of them told of, if there is one, and how long ago it happened.
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

/// What is known of one worker.
#[derive(Clone, Debug)]
pub struct WorkerState {
    /// Its latest answer; older than the others' if it is stalled.
    pub report: WorkerReport,
    /// It did not answer this time.
    pub stalled: bool,
}

/// What is known of all workers at one moment, by index.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// One entry per worker.
    pub workers: Vec<WorkerState>,
    /// The reports have their rows per key.
    pub with_keys: bool,
}

impl Snapshot {
    /// The sum of one number over all workers.
    pub fn total(&self, number: impl Fn(&WorkerReport) -> u64) -> u64 {
        self.workers.iter().map(|worker| number(&worker.report)).sum()
    }

    /// Indexes of the workers that did not answer.
    pub fn stalled(&self) -> Vec<usize> {
        let stalled = self.workers.iter().filter(|worker| worker.stalled);
        stalled.map(|worker| worker.report.worker).collect()
    }
}

/// Asks the workers, and remembers what they said.
pub struct Reporter {
    workers: Arc<dyn Workers>,
    started: Instant,
    /// Microseconds after `started` of each worker's latest answer, to whatever question.
    answered_us: Arc<[AtomicU64]>,
    latest: Mutex<Latest>,
}

struct Latest {
    taken: Option<Instant>,
    snapshot: Arc<Snapshot>,
}

impl Reporter {
    /// A reporter on workers that have just started.
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

    /// How long the workers have served.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// What moves the workers' bytes.
    pub fn engine_name(&self) -> &'static str {
        self.workers.engine_name()
    }

    /// The state of all workers, at most [`REPORT_AGE_MAX`] old. Askers at the same time share one question.
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

    /// Asks every worker whether it lives, and lets each tell of more dispatches, as `dispatch_events` allows.
    pub async fn beat(&self, dispatch_events: Allowance) -> Arc<Snapshot> {
        let mut latest = self.latest.lock().await;
        let workers = self.gather_numbers(Some(dispatch_events), &latest.snapshot).await;
        latest.snapshot = Arc::new(Snapshot { workers, with_keys: false });
        latest.taken = Some(Instant::now());
        latest.snapshot.clone()
    }

    /// The next thing that a worker told of.
    pub fn next_event(&self) -> Option<(Observed, Duration)> {
        self.workers.next_event()
    }

    /// Has every worker carry out `command`; the state afterwards of those that did within a second.
    pub async fn command(&self, command: Command) -> Arc<Snapshot> {
        let mut latest = self.latest.lock().await;
        let workers = self.gather(command, &latest.snapshot).await;
        latest.snapshot = Arc::new(Snapshot { workers, with_keys: false });
        latest.taken = None;
        latest.snapshot.clone()
    }

    /// Sends `command` to every worker and waits for nobody.
    pub fn tell(&self, command: Command) {
        self.workers.request(command, self.note(|_| ()));
    }

    /// Workers that have answered nothing for longer than `silence`.
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
        // Those of a stalled worker, from an earlier report.
        workers.iter_mut().for_each(|worker| worker.report.keys.clear());
        workers
    }

    /// Asks for the keys page by page: no worker writes all of them at one go. A worker that falls
    /// silent on the way keeps the rows that it gave.
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
        let reply = self.note(move |report| drop(sender.send(report)));
        self.workers.request(command, reply);
        let mut workers = before.workers.clone();
        workers.iter_mut().for_each(|worker| worker.stalled = true);
        let mut missing = workers.len();
        // None: every worker that has not answered has dropped the question, because it has ended.
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

    /// `then`, after the time of the answer has been noted. Late answers count: that worker is slow, not dead.
    fn note(&self, then: impl Fn(WorkerReport) + Send + Sync + 'static) -> Reply {
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
    use super::super::testing::{FakeWorkers, Manner};
    use super::*;

    fn reporter(manners: &[Manner]) -> (Reporter, Arc<FakeWorkers>) {
        let workers = Arc::new(FakeWorkers::new(manners));
        (Reporter::new(workers.clone()), workers)
    }

    #[tokio::test(start_paused = true)]
    async fn scrapers_share_a_report_for_a_while() {
        let (reporter, workers) = reporter(&[Manner::Answers, Manner::Answers]);
        for _ in 0..50 {
            let snapshot = reporter.snapshot(false).await;
            assert!(snapshot.stalled().is_empty());
        }
        assert_eq!(workers.asked(), 1);
        tokio::time::advance(REPORT_AGE_MAX).await;
        reporter.snapshot(false).await;
        assert_eq!(workers.asked(), 2);
        // Rows per key were not in that one.
        assert!(reporter.snapshot(true).await.with_keys);
        assert_eq!(workers.asked(), 3);
        reporter.snapshot(false).await;
        assert_eq!(workers.asked(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_worker_costs_a_second_and_keeps_its_last_numbers() {
        let (reporter, workers) = reporter(&[Manner::Answers, Manner::Answers]);
        let before = reporter.snapshot(false).await;
        assert_eq!(before.workers[1].report.waiting, 11);
        workers.now(1, Manner::Silent);
        tokio::time::advance(REPORT_AGE_MAX).await;
        let asked_at = Instant::now();
        let snapshot = reporter.snapshot(false).await;
        assert_eq!(asked_at.elapsed(), ANSWER_TIMEOUT);
        assert_eq!(snapshot.stalled(), [1]);
        assert_eq!(snapshot.workers[1].report.waiting, 11);
        assert_eq!(snapshot.total(|worker| worker.waiting), 21);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_has_ended_costs_nothing() {
        let (reporter, workers) = reporter(&[Manner::Answers, Manner::Answers]);
        workers.now(0, Manner::Ended);
        let asked_at = Instant::now();
        let snapshot = reporter.snapshot(false).await;
        assert_eq!(asked_at.elapsed(), Duration::ZERO);
        assert_eq!(snapshot.stalled(), [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_measured_from_the_latest_answer_even_a_late_one() {
        let (reporter, workers) = reporter(&[Manner::Answers, Manner::Silent]);
        let limit = Duration::from_secs(5);
        // Each question takes the silent worker's second, and then the report's age.
        for question in 1..=6 {
            reporter.snapshot(false).await;
            assert_eq!(reporter.silent(limit).is_empty(), question < 5);
            tokio::time::advance(REPORT_AGE_MAX).await;
        }
        assert_eq!(reporter.silent(limit), [1]);
        workers.answer_late();
        assert!(reporter.silent(limit).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_makes_the_next_report_a_new_one() {
        let (reporter, workers) = reporter(&[Manner::Answers]);
        reporter.snapshot(false).await;
        let snapshot = reporter.command(Command::ShutDown).await;
        assert!(snapshot.workers[0].report.shutting_down);
        reporter.snapshot(false).await;
        assert_eq!(workers.asked(), 3);
    }
}
