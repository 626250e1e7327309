//! Asking all workers at once, and noticing one that is silent.

use crate::broker::report::{Allowance, Command, CoreReport, KeyPage, KeyReport};
use crate::shard::{Fleet, Observed};
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
pub type Reply = Arc<dyn Fn(CoreReport) + Send + Sync>;

/// The workers, as far as the control plane is concerned.
pub trait Cores: Send + Sync {
    /// Sends `command` to every worker; each calls `reply` once.
    fn request(&self, command: Command, reply: Reply);
    /// How many there are.
    fn workers(&self) -> usize;
    /// What moves their bytes.
    fn engine_name(&self) -> &'static str;
    /// The next thing that one of them told of, if there is one, and how long ago it happened.
    fn next_event(&self) -> Option<(Observed, Duration)>;
}

impl Cores for Fleet {
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
pub struct CoreState {
    /// Its latest answer; older than the others' if it is stalled.
    pub report: CoreReport,
    /// It did not answer this time.
    pub stalled: bool,
}

/// What is known of all workers at one moment, by index.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// One entry per worker.
    pub cores: Vec<CoreState>,
    /// The reports have their rows per key.
    pub with_keys: bool,
}

impl Snapshot {
    /// The sum of one number over all workers.
    pub fn total(&self, number: impl Fn(&CoreReport) -> u64) -> u64 {
        self.cores.iter().map(|core| number(&core.report)).sum()
    }

    /// Indexes of the workers that did not answer.
    pub fn stalled(&self) -> Vec<usize> {
        let stalled = self.cores.iter().filter(|core| core.stalled);
        stalled.map(|core| core.report.core).collect()
    }
}

/// Asks the workers, and remembers what they said.
pub struct Reporter {
    cores: Arc<dyn Cores>,
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
    pub fn new(cores: Arc<dyn Cores>) -> Self {
        let workers = cores.workers();
        let unknown =
            |core| CoreState { report: CoreReport { core, ..CoreReport::default() }, stalled: true };
        Reporter {
            cores,
            started: Instant::now(),
            answered_us: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            latest: Mutex::new(Latest {
                taken: None,
                snapshot: Arc::new(Snapshot { cores: (0..workers).map(unknown).collect(), with_keys: false }),
            }),
        }
    }

    /// How long the workers have served.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// What moves the workers' bytes.
    pub fn engine_name(&self) -> &'static str {
        self.cores.engine_name()
    }

    /// The state of all workers, at most [`REPORT_AGE_MAX`] old. Askers at the same time share one question.
    pub async fn snapshot(&self, keys: bool) -> Arc<Snapshot> {
        let mut latest = self.latest.lock().await;
        let fresh = latest.taken.is_some_and(|taken| taken.elapsed() < REPORT_AGE_MAX);
        if fresh && (latest.snapshot.with_keys || !keys) {
            return latest.snapshot.clone();
        }
        let cores = match keys {
            true => self.gather_keys(&latest.snapshot).await,
            false => self.gather_numbers(None, &latest.snapshot).await,
        };
        latest.snapshot = Arc::new(Snapshot { cores, with_keys: keys });
        latest.taken = Some(Instant::now());
        latest.snapshot.clone()
    }

    /// Asks every worker whether it lives, and lets each tell of more dispatches, as `dispatch_events` allows.
    pub async fn beat(&self, dispatch_events: Allowance) -> Arc<Snapshot> {
        let mut latest = self.latest.lock().await;
        let cores = self.gather_numbers(Some(dispatch_events), &latest.snapshot).await;
        latest.snapshot = Arc::new(Snapshot { cores, with_keys: false });
        latest.taken = Some(Instant::now());
        latest.snapshot.clone()
    }

    /// The next thing that a worker told of.
    pub fn next_event(&self) -> Option<(Observed, Duration)> {
        self.cores.next_event()
    }

    /// Has every worker carry out `command`; the state afterwards of those that did within a second.
    pub async fn command(&self, command: Command) -> Arc<Snapshot> {
        let mut latest = self.latest.lock().await;
        let cores = self.gather(command, &latest.snapshot).await;
        latest.snapshot = Arc::new(Snapshot { cores, with_keys: false });
        latest.taken = None;
        latest.snapshot.clone()
    }

    /// Sends `command` to every worker and waits for nobody.
    pub fn tell(&self, command: Command) {
        self.cores.request(command, self.note(|_| ()));
    }

    /// Workers that have answered nothing for longer than `silence`.
    pub fn silent(&self, silence: Duration) -> Vec<usize> {
        let now = self.started.elapsed();
        let answered = |core: &AtomicU64| Duration::from_micros(core.load(Ordering::Relaxed));
        let cores = self.answered_us.iter().enumerate();
        cores
            .filter(|(_, core)| now.saturating_sub(answered(core)) > silence)
            .map(|(index, _)| index)
            .collect()
    }

    async fn gather_numbers(&self, dispatch_events: Option<Allowance>, before: &Snapshot) -> Vec<CoreState> {
        let mut cores = self.gather(Command::Report { keys: None, dispatch_events }, before).await;
        // Those of a stalled worker, from an earlier report.
        cores.iter_mut().for_each(|core| core.report.keys.clear());
        cores
    }

    /// Asks for the keys page by page: no worker writes all of them at one go. A worker that falls
    /// silent on the way keeps the rows that it gave.
    async fn gather_keys(&self, before: &Snapshot) -> Vec<CoreState> {
        let mut rows: Vec<Vec<KeyReport>> = before.cores.iter().map(|_| Vec::new()).collect();
        let mut from = Some(0);
        let mut cores = Vec::new();
        while let Some(page) = from {
            let command = Command::Report { keys: Some(KeyPage { from: page }), dispatch_events: None };
            cores = self.gather(command, before).await;
            for (rows, core) in rows.iter_mut().zip(&mut cores).filter(|(_, core)| !core.stalled) {
                rows.append(&mut core.report.keys);
            }
            let answered = cores.iter().filter(|core| !core.stalled);
            from = answered.filter_map(|core| core.report.next_page).min();
        }
        for (rows, core) in rows.into_iter().zip(&mut cores) {
            if !core.stalled {
                core.report.keys = rows;
            }
        }
        cores
    }

    async fn gather(&self, command: Command, before: &Snapshot) -> Vec<CoreState> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let (sender, mut answers) = mpsc::unbounded_channel();
        let reply = self.note(move |report| drop(sender.send(report)));
        self.cores.request(command, reply);
        let mut cores = before.cores.clone();
        cores.iter_mut().for_each(|core| core.stalled = true);
        let mut missing = cores.len();
        // None: every worker that has not answered has dropped the question, because it has ended.
        while missing > 0
            && let Ok(Some(report)) = timeout_at(deadline, answers.recv()).await
        {
            if let Some(core) = cores.get_mut(report.core) {
                missing -= usize::from(core.stalled);
                *core = CoreState { report, stalled: false };
            }
        }
        cores
    }

    /// `then`, after the time of the answer has been noted. Late answers count: that worker is slow, not dead.
    fn note(&self, then: impl Fn(CoreReport) + Send + Sync + 'static) -> Reply {
        let (answered, started) = (self.answered_us.clone(), self.started);
        Arc::new(move |report| {
            if let Some(core) = answered.get(report.core) {
                core.store(started.elapsed().as_micros() as u64, Ordering::Relaxed);
            }
            then(report);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeCores, Manner};
    use super::*;

    fn reporter(manners: &[Manner]) -> (Reporter, Arc<FakeCores>) {
        let cores = Arc::new(FakeCores::new(manners));
        (Reporter::new(cores.clone()), cores)
    }

    #[tokio::test(start_paused = true)]
    async fn scrapers_share_a_report_for_a_while() {
        let (reporter, cores) = reporter(&[Manner::Answers, Manner::Answers]);
        for _ in 0..50 {
            let snapshot = reporter.snapshot(false).await;
            assert!(snapshot.stalled().is_empty());
        }
        assert_eq!(cores.asked(), 1);
        tokio::time::advance(REPORT_AGE_MAX).await;
        reporter.snapshot(false).await;
        assert_eq!(cores.asked(), 2);
        // Rows per key were not in that one.
        assert!(reporter.snapshot(true).await.with_keys);
        assert_eq!(cores.asked(), 3);
        reporter.snapshot(false).await;
        assert_eq!(cores.asked(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_worker_costs_a_second_and_keeps_its_last_numbers() {
        let (reporter, cores) = reporter(&[Manner::Answers, Manner::Answers]);
        let before = reporter.snapshot(false).await;
        assert_eq!(before.cores[1].report.waiting, 11);
        cores.now(1, Manner::Silent);
        tokio::time::advance(REPORT_AGE_MAX).await;
        let asked_at = Instant::now();
        let snapshot = reporter.snapshot(false).await;
        assert_eq!(asked_at.elapsed(), ANSWER_TIMEOUT);
        assert_eq!(snapshot.stalled(), [1]);
        assert_eq!(snapshot.cores[1].report.waiting, 11);
        assert_eq!(snapshot.total(|core| core.waiting), 21);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_has_ended_costs_nothing() {
        let (reporter, cores) = reporter(&[Manner::Answers, Manner::Answers]);
        cores.now(0, Manner::Ended);
        let asked_at = Instant::now();
        let snapshot = reporter.snapshot(false).await;
        assert_eq!(asked_at.elapsed(), Duration::ZERO);
        assert_eq!(snapshot.stalled(), [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_measured_from_the_latest_answer_even_a_late_one() {
        let (reporter, cores) = reporter(&[Manner::Answers, Manner::Silent]);
        let limit = Duration::from_secs(5);
        // Each question takes the silent worker's second, and then the report's age.
        for question in 1..=6 {
            reporter.snapshot(false).await;
            assert_eq!(reporter.silent(limit).is_empty(), question < 5);
            tokio::time::advance(REPORT_AGE_MAX).await;
        }
        assert_eq!(reporter.silent(limit), [1]);
        cores.answer_late();
        assert!(reporter.silent(limit).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_makes_the_next_report_a_new_one() {
        let (reporter, cores) = reporter(&[Manner::Answers]);
        reporter.snapshot(false).await;
        let snapshot = reporter.command(Command::Drain).await;
        assert!(snapshot.cores[0].report.draining);
        reporter.snapshot(false).await;
        assert_eq!(cores.asked(), 3);
    }
}
