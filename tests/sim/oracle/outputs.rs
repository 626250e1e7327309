//! A worker's requests to its engine, and whether each is allowed.

use super::super::net::{End, LinkId, Net, Us};
use super::{Attempt, Cordon, Doing, Ended, Oracle, find, run_in};
use pilotlight::broker::settings::{Confirm, MatchOrder};

impl Oracle {
    pub fn sends(&mut self, link: LinkId, payload: &[u8], now: Us, net: &Net) {
        let bytes_scarce = self.bytes_scarce;
        let conn = self.conn(link);
        let status = status_of(payload);
        match conn.doing {
            Doing::Garbage if status >= 400 => {
                conn.doing = Doing::Refused { sent: false };
                conn.since = now;
                self.tally.count("refusals");
            }
            Doing::Garbage => {}
            Doing::Held { .. } if status != 200 => {
                self.fail(format!("the poll on link {link} is answered {status}"));
            }
            Doing::Held { key, node } => {
                let Some(run) = run_in(payload).filter(|run| *run < self.runs.len()) else {
                    return self.fail(format!("link {link} is sent a run that was never dispatched"));
                };
                self.check_offer(link, key, node, run, payload, now, net);
                self.claims(link, run, payload, now, net);
            }
            Doing::Awaiting { run } => {
                let answer = match payload {
                    bytes if bytes.ends_with(b"\r\n\r\n{\"didWarmStart\":true}") => true,
                    bytes if bytes.ends_with(b"\r\n\r\n{\"didWarmStart\":false}") => false,
                    _ => {
                        return self
                            .fail(format!("run {run}'s dispatch is answered {status}, not warm or cold"));
                    }
                };
                conn.last_close |= announces_close(payload);
                conn.doing = Doing::Answering;
                conn.since = now;
                self.answers(run, answer, now, net);
            }
            Doing::Answering if status == 200 => conn.last_close |= announces_close(payload),
            // The broker refuses an incomplete dispatch if it has no room for its bytes. It closes an
            // incomplete poll.
            Doing::Nothing if status == 503 && bytes_scarce && conn.begun.is_some() && !conn.interim => {
                conn.doing = Doing::Refused { sent: false };
                conn.since = now;
                self.tally.count("refused: no room for the bytes");
            }
            Doing::Nothing if status == 100 && conn.begun.is_some() => conn.interim = true,
            doing => self.fail(format!(
                "link {link} is sent a {status} while it is {doing:?}: {}",
                String::from_utf8_lossy(&payload[..payload.len().min(120)])
            )),
        }
    }

    pub fn probes(&mut self, link: LinkId) {
        if let Doing::Claimed { attempt } = self.conn(link).doing {
            self.attempts[attempt].probing = true;
        }
    }

    /// Checks that this run may go to this poll.
    #[allow(clippy::too_many_arguments)]
    fn check_offer(
        &mut self,
        link: LinkId,
        key: usize,
        node: usize,
        run: usize,
        payload: &[u8],
        now: Us,
        net: &Net,
    ) {
        let (run_key, message) = (self.runs[run].key, self.runs[run].message.clone());
        let head_end = find(payload, b"\r\n\r\n").map_or(0, |at| at + 4);
        if payload[head_end..] != message[..] {
            self.fail(format!("run {run} is not sent byte for byte"));
        }
        if run_key != key {
            self.fail(format!("run {run} of key {run_key} goes to a poll of key {key}"));
        }
        if let Some(wrong) = self.wrong_to_offer(run, now) {
            self.fail(format!("run {run} is offered to link {link} {wrong}"));
        }
        let conn = self.conn(link);
        let (worker, order, since) = (conn.worker, conn.order, conn.since);
        if self.workers[worker].shutdown_began.is_some() {
            self.fail(format!("link {link} is offered run {run} while worker {worker} shuts down"));
        }
        if self.covered(&self.workers[worker].cordons_surely, key, node) {
            self.fail(format!("link {link} is offered run {run} although it is cordoned"));
        }
        let offered_ms = self.settings.connection_timeout_ms - self.settings.guard_ms;
        if now >= since + offered_ms * 1_000 {
            self.fail(format!("link {link} is offered run {run} while it is parked"));
        }
        let newest = self.settings.match_order == MatchOrder::Newest;
        let better = self
            .offerable(worker, key, now, net)
            .find(|(_, other)| if newest { *other > order } else { *other < order });
        // Polls that an uncordon makes matchable again have no defined order.
        if self.workers[worker].uncordoned_at == 0
            && let Some((other, _)) = better
        {
            self.fail(format!("link {link} is offered run {run} although link {other} comes first"));
        }
    }

    fn claims(&mut self, link: LinkId, run: usize, payload: &[u8], now: Us, net: &Net) {
        let attempt = self.attempts.len();
        self.attempts.push(Attempt {
            run,
            link,
            at: now,
            stream_end: (net.socket(link, End::Broker).out.len() + payload.len()) as u64,
            sent: false,
            fin_before_sent: false,
            facts: None,
            unacked: payload.len() as u64,
            progress_at: now,
            probing: false,
            half_closed: false,
            ended: None,
            ended_at: 0,
        });
        self.runs[run].attempts.push(attempt);
        let conn = self.conn(link);
        conn.doing = Doing::Claimed { attempt };
        let worker = conn.worker;
        self.workers[worker].attempts += 1;
        self.tally.count("attempts");
        if self.runs[run].home != worker {
            self.tally.count("attempts on another worker");
        }
        self.trace.say(net.now, || format!("worker {worker} offers run {run} to the poll on link {link}"));
    }

    /// Why the run must not be offered to any poll now.
    fn wrong_to_offer(&self, run: usize, now: Us) -> Option<String> {
        let record = &self.runs[run];
        let deadline = self.deadline(run);
        if record.since.is_none() {
            return Some("before its dispatch is whole".into());
        }
        if now >= deadline {
            return Some("after its deadline".into());
        }
        if record.answer.is_some() && record.answered_at < deadline {
            return Some("after it was answered".into());
        }
        if record.attempts.len() >= usize::from(self.settings.attempts_max) {
            return Some("after its last attempt".into());
        }
        let mut others = record.attempts.iter().map(|&at| &self.attempts[at]);
        let other = others.find(|attempt| attempt.ended != Some(Ended::Released))?;
        Some(format!("while link {} has it ({:?})", other.link, other.ended))
    }

    fn covered(&self, cordons: &[Cordon], key: usize, node: usize) -> bool {
        cordons.iter().any(|cordon| match *cordon {
            Cordon::Node(covered) => covered == node,
            Cordon::Key(covered) => self.deployments[covered] == self.deployments[key],
        })
    }

    /// Polls on `worker` that can certainly be offered a run of `key` now, each with its link and order.
    pub(super) fn offerable<'a>(
        &'a self,
        worker: usize,
        key: usize,
        now: Us,
        net: &'a Net,
    ) -> impl Iterator<Item = (LinkId, u64)> + 'a {
        let open = self.open_on(worker).filter(move |_| !self.workers[worker].shutdown_requested);
        open.filter_map(move |(link, conn)| {
            let Doing::Held { key: held, node } = conn.doing else { return None };
            if held != key || self.covered(&self.workers[worker].cordons_maybe, held, node) {
                return None;
            }
            // The guard, and at most the same again for the round trip.
            let settings = &self.settings;
            let guard = settings.guard_ms * 1_000;
            let correction = (4 * net.links[link].wire.delay).min(guard);
            let until =
                (conn.since + settings.connection_timeout_ms * 1_000).saturating_sub(guard + correction);
            (now < until).then_some((link, conn.order))
        })
    }

    fn answers(&mut self, run: usize, answer: bool, now: Us, net: &Net) {
        let record = &mut self.runs[run];
        if record.answer.is_some() {
            return self.fail(format!("run {run} is answered twice"));
        }
        record.answer = Some(answer);
        record.answered_at = now;
        let home = record.home;
        self.trace.say(net.now, || format!("worker {home} answers {answer} to run {run}"));
        let confirmed =
            self.runs[run].attempts.iter().any(|&at| self.attempts[at].ended == Some(Ended::Confirmed));
        if answer {
            self.tally.count("warm");
            self.workers[home].warm += 1;
            if !confirmed {
                self.fail(format!("run {run} is answered true, and no delivery is confirmed"));
            }
            return;
        }
        self.tally.count("cold");
        self.workers[home].cold += 1;
        if let Some(wrong) = self.wrong_to_refuse(run, confirmed, now, net) {
            self.fail(format!("run {run} is answered false although {wrong}"));
        }
    }

    /// Why the run must not be answered false now.
    fn wrong_to_refuse(&mut self, run: usize, confirmed: bool, now: Us, net: &Net) -> Option<String> {
        let record = &self.runs[run];
        let attempts = || record.attempts.iter().map(|&at| &self.attempts[at]);
        if now + SKEW_US >= self.deadline(run) {
            // Only an attempt that was still open can take until the deadline.
            let busy =
                attempts().any(|attempt| attempt.ended.is_none() || now < attempt.ended_at + REACTION_US);
            self.tally.count("cold at the deadline");
            return (self.punctual && !busy).then(|| "no attempt was open until its deadline".into());
        }
        if confirmed {
            return Some("its delivery is confirmed".into());
        }
        if attempts().any(|attempt| attempt.ended.is_none()) {
            return Some("a poll is claimed for it".into());
        }
        let home = record.home;
        let tried_all = record.attempts.len() >= usize::from(self.settings.attempts_max);
        if tried_all || self.keys_scarce || self.bytes_scarce || self.workers[home].shutdown_requested {
            return None;
        }
        // The broker must find a poll that was held the whole time.
        let (key, dispatched) = (record.key, record.since.map_or(0, |since| since.1));
        (0..self.workers.len()).find_map(|worker| {
            let clock = self.workers[worker].now.max(now);
            let mut waiting = self.offerable(worker, key, clock, net);
            let (link, _) =
                waiting.find(|(link, _)| worker == home || self.findable_since(*link) < dispatched)?;
            Some(format!("a poll waits for it on link {link}"))
        })
    }

    /// Since when other workers can find the poll on `link` (the network's clock).
    fn findable_since(&self, link: LinkId) -> Us {
        self.conns[link]
            .as_ref()
            .map_or(Us::MAX, |conn| conn.since_net.max(self.workers[conn.worker].uncordoned_at))
    }

    /// `worker` is above its connection limit, the newest connection included.
    fn at_limit(&self, worker: usize) -> bool {
        let limit = self.settings.connections;
        let above: usize = self.open.iter().map(|open| open.len().saturating_sub(limit.own)).sum();
        self.open[worker].len() > limit.own && above > limit.common
    }

    pub fn closes(&mut self, link: LinkId, reset: bool, held_back: bool, now: Us, net: &Net) {
        let worker = self.conn(link).worker;
        let at_limit = self.at_limit(worker);
        let newest = self.open[worker].last() == Some(&link);
        let has_sent = |link: LinkId| !net.socket(link, End::Broker).queue.is_empty();
        let silent = self.open_on(worker).find(|(other, conn)| {
            *other != link
                && conn.received == 0
                && !conn.fin_reported
                && !conn.reset_reported
                && !has_sent(*other)
        });
        let silent = silent.map(|(other, _)| other);
        self.open[worker].retain(|other| *other != link);
        let conn = self.conn(link);
        conn.open = false;
        let (doing, since, begun, reset_reported) = (conn.doing, conn.since, conn.begun, conn.reset_reported);
        let ended = conn.fin_reported || reset_reported;
        let fresh = conn.received == 0;
        let used = conn.next.checked_sub(1).map_or(0, |last| conn.script[last].end);
        let behind = conn.received > used;
        let no_room_behind = self.bytes_scarce && behind;
        let view = &self.workers[worker];
        let settings = &self.settings;
        let shutdown_us = settings.shutdown_time_ms * 1_000;
        let shutdown_over = match view.shutdown_began {
            Some(began) => now >= began + shutdown_us,
            None => view.shutdown_requested && shutdown_us == 0,
        };
        let past = |since: Us, ms: u64| now >= since + ms * 1_000;
        let allowed = match doing {
            Doing::Garbage | Doing::Refused { .. } | Doing::Closing => true,
            Doing::Claimed { attempt } => {
                return self.claim_ends(attempt, reset, reset_reported, held_back, now, net);
            }
            Doing::Held { key, node } => {
                let bounded = settings.polls_per_key_max.min(settings.polls_per_deployment_max);
                let no_room = now == since && (self.keys_scarce || bounded < usize::MAX);
                let cordoned = self.covered(&view.cordons_maybe, key, node);
                let expired = past(since, settings.connection_timeout_ms + settings.guard_ms);
                ended || expired || view.shutdown_requested || no_room || no_room_behind || cordoned
            }
            Doing::Awaiting { .. } => reset_reported,
            Doing::Answering => reset_reported || past(since, settings.write_timeout_ms),
            Doing::Nothing if ended || shutdown_over => true,
            Doing::Nothing if no_room_behind => true,
            Doing::Nothing if fresh && past(since, settings.preconnect_timeout_ms) => true,
            Doing::Nothing if fresh && at_limit => {
                match (newest, silent) {
                    (true, Some(other)) => self.fail(format!(
                        "link {link} is refused although {other} is silent and could be evicted"
                    )),
                    (false, _) if has_sent(link) => {
                        self.fail(format!("link {link} is evicted although it has sent bytes"))
                    }
                    _ => {}
                }
                true
            }
            Doing::Nothing if fresh => false,
            Doing::Nothing => match begun {
                Some(begun) => past(begun, settings.request_timeout_ms),
                None => past(since, settings.idle_timeout_ms),
            },
        };
        if !allowed {
            self.fail(format!(
                "link {link} is closed {} us after it became {doing:?} (begun {begun:?}), without a reason",
                now - since
            ));
        }
    }

    /// The worker closes a claimed poll: released or confirmed.
    fn claim_ends(
        &mut self,
        attempt: usize,
        reset: bool,
        reset_reported: bool,
        held_back: bool,
        now: Us,
        net: &Net,
    ) {
        let record = &self.attempts[attempt];
        let (run, link) = (record.run, record.link);
        if record.ended == Some(Ended::Confirmed) {
            if reset {
                self.fail(format!("run {run} is delivered on link {link}, which is reset"));
            }
            return;
        }
        if !reset {
            return self
                .fail(format!("link {link} has run {run}, unconfirmed, and is closed without a reset"));
        }
        let settings = &self.settings;
        let waited = |ms: u64| now >= record.at + ms * 1_000;
        let late = now >= self.deadline(run);
        let end_reported =
            reset_reported || record.fin_before_sent || record.facts.is_some_and(|facts| !facts.alive);
        let why = match record.facts {
            _ if end_reported => "released: the connection's end",
            _ if late => "released: the deadline",
            Some(facts) if record.sent && facts.unacked_bytes == 0 && waited(settings.read_timeout_ms) => {
                "released: unread"
            }
            Some(facts) if facts.unacked_bytes > 0 && waited(settings.ack_timeout_ms) => {
                "released: unacknowledged"
            }
            _ => {
                let after = now - record.at;
                return self.fail(format!(
                    "run {run} is released from link {link} after {after} us without a reason"
                ));
            }
        };
        // What the worker would have learned from a probe.
        let broker = net.socket(link, End::Broker);
        let proof = broker.alive()
            && broker.acked >= record.stream_end
            && (settings.confirm == Confirm::Ack || broker.peer_fin);
        if proof && !end_reported && !late && !held_back {
            self.fail(format!("run {run} is released from link {link} although its delivery is proved"));
        }
        self.attempts[attempt].ended = Some(Ended::Released);
        self.attempts[attempt].ended_at = now;
        self.tally.count(why);
        self.trace.say(net.now, || format!("run {run} is released from link {link} ({why})"));
    }
}

/// During a shutdown a response announces that the broker closes the connection after it.
fn announces_close(response: &[u8]) -> bool {
    find(response, b"\r\nConnection: close\r\n").is_some()
}

fn status_of(payload: &[u8]) -> u16 {
    let digits = payload.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Workers read their clocks at different times.
const SKEW_US: Us = 1_000;

/// A worker's reaction time: an event this long ago counts as current.
const REACTION_US: Us = 5_000;
