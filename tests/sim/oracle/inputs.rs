//! Facts that the engine reports to a worker, before the worker acts on them.

use super::super::net::{End, LinkId, Net, Us};
use super::{Ask, Conn, Doing, Ended, Kind, Oracle};
use pilotlight::broker::io::TcpFacts;
use pilotlight::broker::settings::Confirm;

impl Oracle {
    pub fn on_accepted(&mut self, worker: usize, link: LinkId, now: Us) {
        if self.conns.len() <= link {
            self.conns.resize_with(link + 1, || None);
        }
        self.open[worker].push(link);
        self.conns[link] = Some(Conn {
            worker,
            doing: Doing::Nothing,
            since: now,
            since_net: 0,
            order: 0,
            script: self.scripts.get(link).cloned().unwrap_or_default(),
            next: 0,
            received: 0,
            begun: None,
            last_close: false,
            fin_reported: false,
            reset_reported: false,
            open: true,
            interim: false,
        });
    }

    pub fn on_bytes(&mut self, link: LinkId, count: usize, now: Us, net: &Net) {
        self.conn(link).received += count as u64;
        self.tally.add("fault: a read brings a single byte", (count == 1).into());
        self.advance(link, now, net);
    }

    /// Begins the next request of the script once all of it has arrived.
    fn advance(&mut self, link: LinkId, now: Us, net: &Net) {
        let conn = self.conn(link);
        if conn.doing != Doing::Nothing || conn.interim {
            return;
        }
        let begins = conn.next.checked_sub(1).map_or(0, |last| conn.script[last].end);
        if conn.received <= begins {
            return;
        }
        conn.begun.get_or_insert(now);
        let Some(&Ask { kind, end, close }) = conn.script.get(conn.next) else {
            conn.doing = Doing::Garbage;
            return;
        };
        if kind == Kind::Garbage {
            conn.doing = Doing::Garbage;
            return;
        }
        if conn.received < end {
            return;
        }
        conn.next += 1;
        conn.begun = None;
        conn.since = now;
        conn.since_net = net.now;
        conn.last_close = close;
        match kind {
            Kind::Poll { key, node } => {
                conn.doing = Doing::Held { key, node };
                self.orders += 1;
                self.conn(link).order = self.orders;
                self.tally.count("polls");
            }
            Kind::Dispatch { run } => {
                conn.doing = Doing::Awaiting { run };
                let worker = conn.worker;
                self.runs[run].since = Some((now, net.now));
                self.runs[run].home = worker;
                self.tally.count("dispatches");
            }
            Kind::Connect => conn.doing = Doing::Answering,
            Kind::Garbage => {}
        }
    }

    pub fn on_sent(&mut self, link: LinkId, now: Us, net: &Net) {
        let confirm = self.settings.confirm;
        let conn = self.conn(link);
        match conn.doing {
            Doing::Claimed { attempt } => {
                self.attempts[attempt].sent = true;
                if confirm == Confirm::Write {
                    self.proved(link, attempt, now, net);
                }
            }
            Doing::Answering => self.request_done(link, now, net),
            Doing::Refused { .. } => {
                conn.doing = Doing::Refused { sent: true };
                conn.since = now;
            }
            Doing::Nothing if conn.interim => {
                conn.interim = false;
                self.advance(link, now, net);
            }
            _ => {}
        }
    }

    pub fn on_acked(&mut self, link: LinkId, now: Us, net: &Net) {
        if let Doing::Claimed { attempt } = self.conn(link).doing
            && self.settings.confirm == Confirm::Ack
        {
            self.proved(link, attempt, now, net);
        }
    }

    pub fn on_fin(&mut self, link: LinkId, facts: Option<TcpFacts>, now: Us, net: &Net) {
        let conn = self.conn(link);
        conn.fin_reported = true;
        if let Doing::Held { .. } = conn.doing {
            self.tally.count("fault: a FIN before the claim");
            return;
        }
        if let Doing::Claimed { attempt } = conn.doing {
            let when = match facts {
                Some(facts) if self.attempts[attempt].sent && facts.unacked_bytes == 0 => {
                    "fault: a FIN after the run"
                }
                Some(_) if self.attempts[attempt].sent => "fault: a FIN with bytes unacknowledged",
                _ => "fault: a FIN while the run is being written",
            };
            self.tally.count(when);
            self.attempts[attempt].fin_before_sent |= !self.attempts[attempt].sent || facts.is_none();
            if let Some(facts) = facts {
                self.on_facts(link, facts, now, net);
            }
        }
    }

    pub fn on_reset(&mut self, link: LinkId) {
        self.conn(link).reset_reported = true;
    }

    pub fn on_facts(&mut self, link: LinkId, facts: TcpFacts, now: Us, net: &Net) {
        let conn = self.conn(link);
        let fin_reported = conn.fin_reported;
        let Doing::Claimed { attempt } = conn.doing else { return };
        let record = &mut self.attempts[attempt];
        record.probing = false;
        record.facts = Some(facts);
        if facts.unacked_bytes < record.unacked {
            record.unacked = facts.unacked_bytes;
            record.progress_at = now;
        }
        let all = record.sent && facts.unacked_bytes == 0 && !record.fin_before_sent;
        let proves = match self.settings.confirm {
            // A reset undoes a read, not an acknowledgement.
            Confirm::Ack => true,
            _ => facts.alive && (fin_reported || facts.fin),
        };
        if all && proves {
            self.proved(link, attempt, now, net);
        }
    }

    /// The worker now has the proof that the mode asks for: checks that it is true.
    fn proved(&mut self, link: LinkId, attempt: usize, now: Us, net: &Net) {
        let record = &mut self.attempts[attempt];
        let (run, stream_end) = (record.run, record.stream_end);
        let client = net.socket(link, End::Client);
        let broker = net.socket(link, End::Broker);
        let has_all = client.received >= stream_end;
        record.half_closed = client.half_closed && client.read < stream_end;
        let true_proof = match self.settings.confirm {
            Confirm::Read => has_all && (client.read >= stream_end || record.half_closed),
            Confirm::Ack => has_all && broker.acked >= stream_end,
            Confirm::Write => broker.out.len() as u64 >= stream_end,
        };
        record.ended = Some(Ended::Confirmed);
        record.ended_at = now;
        if !true_proof {
            self.fail(format!(
                "the facts reported of link {link} prove that run {run} is delivered, and it is not"
            ));
        }
        if self.settings.confirm != Confirm::Read {
            // A shutdown closes the connection unannounced. The runner's process executes the run before it
            // polls again.
            let worker = self.conn(link).worker;
            let shutting_down = self.workers[worker].shutdown_began.is_some();
            self.conn(link).last_close |= shutting_down;
            self.request_done(link, now, net);
        }
    }

    fn request_done(&mut self, link: LinkId, now: Us, net: &Net) {
        let conn = self.conn(link);
        conn.doing = if conn.last_close { Doing::Closing } else { Doing::Nothing };
        conn.since = now;
        self.advance(link, now, net);
    }
}
