//! What the clients' processes read, and what it all came to.

use super::super::net::{LinkId, Net};
use super::{Attempt, Ended, Oracle, run_in};
use pilotlight::broker::settings::Confirm;

impl Oracle {
    /// A runner's process has read the whole response.
    pub fn runner_got(&mut self, link: LinkId, actor: usize, key: usize, body: &[u8], net: &Net) {
        let Some(run) = run_in(body).filter(|run| *run < self.runs.len()) else {
            return self.fail(format!("runner {actor} got something that is no run"));
        };
        if self.runs[run].key != key {
            self.fail(format!("runner {actor} of key {key} got run {run} of another"));
        }
        if *self.runs[run].message != body {
            self.fail(format!("runner {actor} got run {run} changed"));
        }
        self.trace.say(net.now, || format!("runner {actor} has read run {run} on link {link}"));
        self.runs[run].got_by.push((actor, link));
        // Others may have it only from connections that were taken back under them.
        let deliveries = self.runs[run].got_by.iter();
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
    pub fn supervisor_heard(&mut self, run: usize, answer: bool, net: &Net) {
        self.trace.say(net.now, || format!("run {run}'s supervisor has read {answer}"));
        if self.runs[run].heard.replace(answer).is_some() {
            self.fail(format!("run {run}'s supervisor heard twice"));
        }
        if self.runs[run].answer != Some(answer) {
            self.fail(format!("run {run}'s supervisor heard {answer}, which nobody answered"));
        }
    }

    /// When all is over: what the runs came to, and whether each way is one that the guarantees name.
    pub fn conclude(&mut self) {
        for run in 0..self.runs.len() {
            match self.runs[run].answer {
                Some(true) => self.conclude_hit(run),
                Some(false) => self.conclude_miss(run),
                None if !self.runs[run].got_by.is_empty() => self.tally.count("delivered, supervisor gone"),
                None => {}
            }
        }
    }

    fn conclude_hit(&mut self, run: usize) {
        let record = &self.runs[run];
        let confirmed = |attempt: &Attempt| attempt.run == run && attempt.ended == Some(Ended::Confirmed);
        let Some(attempt) = record.attempts.iter().map(|&at| &self.attempts[at]).find(|at| confirmed(at))
        else {
            return;
        };
        let (link, half_closed) = (attempt.link, attempt.half_closed);
        if record.got_by.iter().any(|(_, by)| *by == link) {
            if record.got_by.len() > 1 {
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
            Confirm::Write => self.tally.count("true, unread: taken by our own kernel"),
        }
    }

    fn conclude_miss(&mut self, run: usize) {
        let record = &self.runs[run];
        let late = record.answered_at >= self.deadline(run);
        for index in 0..self.runs[run].got_by.len() {
            let link = self.runs[run].got_by[index].1;
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
