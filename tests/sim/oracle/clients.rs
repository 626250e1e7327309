//! What the clients' processes read, and each run's outcome at the end.

use super::super::net::{LinkId, Net};
use super::{Attempt, Ended, Oracle, run_in};
use pilotlight::broker::settings::Confirm;

impl Oracle {
    /// A runner's process has read the whole response.
    pub fn runner_read(&mut self, link: LinkId, actor: usize, key: usize, body: &[u8], net: &Net) {
        let Some(run) = run_in(body).filter(|run| *run < self.runs.len()) else {
            return self.fail(format!("runner {actor} read a body that is not a run"));
        };
        if self.runs[run].key != key {
            self.fail(format!("runner {actor} of key {key} read run {run} of another key"));
        }
        if *self.runs[run].message != body {
            self.fail(format!("runner {actor} read run {run} with changed bytes"));
        }
        self.trace.say(net.now, || format!("runner {actor} has read run {run} on link {link}"));
        self.runs[run].read_by.push((actor, link));
        // Other runners may have read it only on connections that were released.
        let deliveries = self.runs[run].read_by.iter();
        let unreleased = deliveries.filter(|(_, link)| {
            self.attempt_on(run, *link).is_none_or(|attempt| attempt.ended != Some(Ended::Released))
        });
        if unreleased.count() > 1 {
            self.fail(format!("run {run} is delivered to two runners"));
        }
    }

    fn attempt_on(&self, run: usize, link: LinkId) -> Option<&Attempt> {
        let mut attempts = self.runs[run].attempts.iter().map(|&at| &self.attempts[at]);
        attempts.find(|attempt| attempt.link == link)
    }

    /// A supervisor's process has read an answer.
    pub fn supervisor_read(&mut self, run: usize, answer: bool, net: &Net) {
        self.trace.say(net.now, || format!("run {run}'s supervisor has read {answer}"));
        if self.runs[run].answer_read.replace(answer).is_some() {
            self.fail(format!("run {run}'s supervisor read two answers"));
        }
        if self.runs[run].answer != Some(answer) {
            self.fail(format!("run {run}'s supervisor read {answer}, which no worker sent"));
        }
    }

    /// At the end: classifies each run's outcome, which must be one that docs/guarantees.md allows.
    pub fn conclude(&mut self) {
        for run in 0..self.runs.len() {
            match self.runs[run].answer {
                Some(true) => self.conclude_warm(run),
                Some(false) => self.conclude_cold(run),
                None if !self.runs[run].read_by.is_empty() => self.tally.count("delivered, supervisor gone"),
                None => {}
            }
        }
    }

    fn conclude_warm(&mut self, run: usize) {
        let record = &self.runs[run];
        let confirmed = |attempt: &Attempt| attempt.run == run && attempt.ended == Some(Ended::Confirmed);
        let Some(attempt) = record.attempts.iter().map(|&at| &self.attempts[at]).find(|at| confirmed(at))
        else {
            return;
        };
        let (link, half_closed) = (attempt.link, attempt.half_closed);
        if record.read_by.iter().any(|(_, by)| *by == link) {
            if record.read_by.len() > 1 {
                self.tally.count("true, and read again by a process that was reset");
            }
            return;
        }
        match self.settings.confirm {
            Confirm::Read if half_closed => self.tally.count("true, unread: half-closed, then gone"),
            Confirm::Read => {
                self.fail(format!("run {run} is answered true, and link {link}'s runner never read it"))
            }
            Confirm::Ack => self.tally.count("true, unread: acknowledged by the kernel alone"),
            Confirm::Write => self.tally.count("true, unread: accepted by the broker's kernel alone"),
        }
    }

    fn conclude_cold(&mut self, run: usize) {
        let record = &self.runs[run];
        let late = record.answered_at >= self.deadline(run);
        for index in 0..self.runs[run].read_by.len() {
            let link = self.runs[run].read_by[index].1;
            match self.attempt_on(run, link).and_then(|attempt| attempt.ended) {
                Some(Ended::Released) => self.tally.count("false, read by a process that was reset"),
                _ if late => self.tally.count("false at the deadline, read"),
                ended => {
                    self.fail(format!("run {run} is answered false, and was read on link {link} ({ended:?})"))
                }
            }
        }
    }
}
