//! The data of a frame: the last answers, and the state of search, order and scrolling. No terminal, no network.

use super::flags::PoolOrder;
use crate::api::{Dispatch, Dispatches, History, Live, Pool};
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Duration;

/// Dispatches that the view keeps for scrolling.
const DISPATCHES_MAX: usize = 500;

/// The result of one update.
#[derive(Debug)]
pub enum Update {
    /// The broker answered.
    Answered(Box<Answers>),
    /// The broker did not answer; the reason.
    Gone(String),
}

/// The answers of one update.
#[derive(Debug, Default)]
pub struct Answers {
    pub live: Live,
    pub history: Option<History>,
    pub dispatches: Dispatches,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Pause,
    Search,
    Sort,
    Reverse,
    Other,
    Lines(i32),
    Char(char),
    Backspace,
    Accept,
    Clear,
}

/// The list that is scrolled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum List {
    #[default]
    Pools,
    Runs,
}

/// Dispatches per second between the last two updates.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    pub warm: f64,
    pub cold: f64,
    pub unconfirmed: f64,
}

impl Rates {
    /// The share of warm dispatches; `None` if there were no dispatches.
    pub fn warm_percent(&self) -> Option<f64> {
        let all = self.warm + self.cold + self.unconfirmed;
        (all > 0.0).then(|| 100.0 * self.warm / all)
    }
}

/// The data of a frame.
#[derive(Debug, Default)]
pub struct View {
    /// The admin side, as typed.
    pub admin: String,
    live: Live,
    before: Option<Live>,
    pub history: History,
    runs: VecDeque<Dispatch>,
    /// Why there is no answer.
    pub gone: Option<String>,
    /// The broker has answered at least once.
    pub known: bool,
    pub paused: bool,
    pub order: PoolOrder,
    pub reversed: bool,
    pub search: String,
    /// Typed characters go to the search.
    pub typing: bool,
    pub scrolled: List,
    pub pools_from: usize,
    pub runs_from: usize,
}

impl View {
    /// A view without any answer yet.
    pub fn new(admin: &str, order: PoolOrder, search: Option<&str>) -> View {
        View {
            admin: admin.to_owned(),
            order,
            search: search.unwrap_or_default().to_lowercase(),
            ..View::default()
        }
    }

    /// The `seq` of the newest dispatch in the view.
    pub fn last_seq(&self) -> u64 {
        self.runs.back().map_or(0, |run| run.seq)
    }

    /// Applies one update. True if the broker has restarted: its counts begin again.
    pub fn take(&mut self, update: Update) -> bool {
        match update {
            Update::Gone(why) => {
                self.gone = Some(why);
                false
            }
            Update::Answered(answers) => {
                let Answers { live, history, dispatches } = *answers;
                self.gone = None;
                let restarted = self.known && live.uptime_seconds < self.live.uptime_seconds;
                if restarted {
                    self.runs.clear();
                }
                let last = std::mem::replace(&mut self.live, live);
                self.before = (self.known && !restarted).then_some(last);
                self.known = true;
                if let Some(history) = history {
                    self.history = history;
                }
                let after = self.last_seq();
                self.runs.extend(dispatches.dispatches.into_iter().filter(|run| run.seq > after));
                let too_many = self.runs.len().saturating_sub(DISPATCHES_MAX);
                self.runs.drain(..too_many);
                restarted
            }
        }
    }

    /// Applies a key.
    pub fn apply(&mut self, action: Action) {
        match action {
            Action::Pause => self.paused = !self.paused,
            Action::Search => self.typing = true,
            Action::Sort => {
                const ORDERS: [PoolOrder; 5] = [
                    PoolOrder::Waiting,
                    PoolOrder::Warm,
                    PoolOrder::Cold,
                    PoolOrder::Oldest,
                    PoolOrder::Name,
                ];
                let at = ORDERS.iter().position(|order| *order == self.order).unwrap_or(0);
                self.order = ORDERS[(at + 1) % ORDERS.len()];
            }
            Action::Reverse => self.reversed = !self.reversed,
            Action::Other => {
                self.scrolled = if self.scrolled == List::Pools { List::Runs } else { List::Pools };
            }
            Action::Lines(lines) => {
                let (pools, runs) = (self.pools().len(), self.runs().len());
                let (from, length) = match self.scrolled {
                    List::Pools => (&mut self.pools_from, pools),
                    List::Runs => (&mut self.runs_from, runs),
                };
                *from = from.saturating_add_signed(lines as isize).min(length.saturating_sub(1));
            }
            Action::Char(next) => self.searched(|search| search.extend(next.to_lowercase())),
            Action::Backspace => self.searched(|search| {
                search.truncate(search.len() - search.chars().last().map_or(0, char::len_utf8))
            }),
            Action::Accept => self.typing = false,
            Action::Clear => {
                self.typing = false;
                self.searched(String::clear);
            }
        }
    }

    fn searched(&mut self, change: impl FnOnce(&mut String)) {
        change(&mut self.search);
        (self.pools_from, self.runs_from) = (0, 0);
    }

    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Rates since the previous update; `None` after the first.
    pub fn rates(&self) -> Option<Rates> {
        let per_second = self.per_second()?;
        let before = self.before.as_ref()?;
        Some(Rates {
            warm: per_second(self.live.warm, before.warm),
            cold: per_second(self.live.cold, before.cold),
            unconfirmed: per_second(self.live.unconfirmed, before.unconfirmed),
        })
    }

    /// Dispatches per second that a worker answered.
    pub fn worker_rate(&self, worker: usize) -> Option<f64> {
        let per_second = self.per_second()?;
        let answered = |live: &Live| {
            let found = live.workers.iter().find(|row| row.worker == worker)?;
            Some(found.warm + found.cold)
        };
        Some(per_second(answered(&self.live)?, answered(self.before.as_ref()?)?))
    }

    /// The most frequent reason of the runs that were cold since the last update, or of all cold runs if there were none.
    pub fn main_reason(&self) -> Option<(&str, u64)> {
        let before = |reason: &str| self.before.as_ref().and_then(|live| live.reasons.get(reason)).copied();
        let lately = |reason: &str, count: u64| count.saturating_sub(before(reason).unwrap_or(count));
        self.most(lately).or_else(|| self.most(|_, count| count))
    }

    fn most(&self, counted: impl Fn(&str, u64) -> u64) -> Option<(&str, u64)> {
        let reasons =
            self.live.reasons.iter().map(|(reason, count)| (reason.as_str(), counted(reason, *count)));
        reasons.filter(|(_, count)| *count > 0).max_by_key(|(_, count)| *count)
    }

    fn per_second(&self) -> Option<impl Fn(u64, u64) -> f64 + use<>> {
        let millis = self.live.at_ms.checked_sub(self.before.as_ref()?.at_ms).filter(|millis| *millis > 0)?;
        let seconds = Duration::from_millis(millis).as_secs_f64();
        Some(move |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds)
    }

    /// The pools that match the search, in the selected order.
    pub fn pools(&self) -> Vec<&Pool> {
        let fits = |pool: &&Pool| self.fits(&[&pool.deployment, &pool.version]);
        let mut pools: Vec<&Pool> = self.live.pools.iter().filter(fits).collect();
        match self.order {
            PoolOrder::Waiting => pools.sort_by_key(|pool| Reverse((pool.waiting, pool.warm + pool.cold))),
            PoolOrder::Warm => pools.sort_by_key(|pool| Reverse(pool.warm)),
            PoolOrder::Cold => pools.sort_by_key(|pool| Reverse(pool.cold)),
            PoolOrder::Oldest => pools.sort_by_key(|pool| Reverse(pool.oldest_wait_ms)),
            PoolOrder::Name => {
                pools.sort_by(|a, b| (&a.deployment, &a.version).cmp(&(&b.deployment, &b.version)))
            }
        }
        if self.reversed {
            pools.reverse();
        }
        pools
    }

    /// The dispatches that match the search, the newest first.
    pub fn runs(&self) -> Vec<&Dispatch> {
        let fits = |run: &&Dispatch| {
            let texts = [&run.run, &run.deployment, &run.version, &run.reason, &run.closest];
            let mut texts: Vec<&str> = texts.into_iter().flatten().map(String::as_str).collect();
            texts.push(&run.outcome);
            self.fits(&texts)
        };
        self.runs.iter().rev().filter(fits).collect()
    }

    fn fits(&self, texts: &[&str]) -> bool {
        self.search.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(&self.search))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answers, dispatch};
    use super::*;

    #[test]
    fn rates_do_not_span_a_restart() {
        let mut view = View::new("http://a", PoolOrder::Waiting, None);
        view.take(answers(1_000, 10));
        assert_eq!((view.rates(), view.worker_rate(0)), (None, None));
        view.take(answers(3_000, 30));
        let rates = view.rates().unwrap();
        assert_eq!((rates.warm, rates.cold), (20.0, 10.0));
        assert_eq!(view.worker_rate(0), Some(30.0));
        assert!((rates.warm_percent().unwrap() - 66.67).abs() < 0.01);
        view.take(Update::Gone("no_runner".to_owned()));
        assert_eq!((view.gone.as_deref(), view.live().waiting), (Some("no_runner"), 12));
        assert!(view.take(answers(9_000, 2)), "it is another process");
        assert_eq!((view.gone.as_ref(), view.rates()), (None, None));
    }

    #[test]
    fn pools_are_searched_and_sorted() {
        let mut view = View::new("http://a", PoolOrder::Waiting, None);
        view.take(answers(1_000, 10));
        let names = |view: &View| view.pools().iter().map(|pool| pool.deployment.clone()).collect::<Vec<_>>();
        assert_eq!(names(&view), ["deployment_b", "deployment_a"]);
        view.apply(Action::Sort);
        assert_eq!((view.order, names(&view)[0].as_str()), (PoolOrder::Warm, "deployment_a"));
        view.apply(Action::Reverse);
        assert_eq!(names(&view)[0], "deployment_b");
        view.apply(Action::Search);
        assert!(view.typing);
        "T_A".chars().for_each(|next| view.apply(Action::Char(next)));
        view.apply(Action::Accept);
        assert_eq!((names(&view), view.typing), (vec!["deployment_a".to_owned()], false));
        view.apply(Action::Lines(5));
        assert_eq!(view.pools_from, 0, "one row is not scrolled away");
        view.apply(Action::Clear);
        assert_eq!(names(&view).len(), 2);
    }

    #[test]
    fn runs_are_kept_once_newest_first() {
        let mut view = View::new("http://a", PoolOrder::Waiting, None);
        view.take(answers(1_000, 10));
        for first in [0, 300] {
            let dispatches = (first..first + 400).map(dispatch).collect();
            let dispatches = Dispatches { last: first + 399, dispatches };
            view.take(Update::Answered(Box::new(Answers { dispatches, ..Answers::default() })));
        }
        assert_eq!((view.runs().len(), view.last_seq()), (DISPATCHES_MAX, 699));
        assert_eq!(view.runs()[0].seq, 699);
        view.search = "run_650".to_owned();
        assert_eq!(view.runs().len(), 1);
    }

    #[test]
    fn main_reason_prefers_recent_runs() {
        let mut view = View::new("http://a", PoolOrder::Waiting, None);
        let with = |at_ms, no_runner, other_version| {
            let reasons =
                [("no_runner".to_owned(), no_runner), ("other_version".to_owned(), other_version)].into();
            let live = Live { at_ms, uptime_seconds: at_ms, reasons, ..Live::default() };
            Update::Answered(Box::new(Answers { live, ..Answers::default() }))
        };
        view.take(with(1, 0, 0));
        assert_eq!(view.main_reason(), None);
        view.take(with(2, 90, 1));
        assert_eq!(view.main_reason(), Some(("no_runner", 90)));
        view.take(with(3, 90, 5));
        assert_eq!(view.main_reason(), Some(("other_version", 4)));
        view.take(with(4, 90, 5));
        assert_eq!(view.main_reason(), Some(("no_runner", 90)));
    }
}
