//! Runs every case three times against one broker, eight at a time.

use crate::cases::{self, Case, Then};
use crate::support::broker::Broker;
use crate::support::client::{Client, End, Response};
use crate::support::trigger::{self, Key};
use crate::support::{MOMENT, PATIENCE};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Cases that run at the same time.
const AT_ONCE: usize = 8;

/// How a case's bytes arrive. The outcome must not depend on it.
#[derive(Clone, Copy, Debug)]
enum Arrival {
    Whole,
    /// In four parts, which the broker reads one by one.
    Parts,
    /// Byte by byte.
    Bytes,
}

const ARRIVALS: [Arrival; 3] = [Arrival::Whole, Arrival::Parts, Arrival::Bytes];

#[test]
fn every_case_has_a_name_and_a_source() {
    let cases = cases::all();
    assert!(cases.len() >= 200, "{} cases", cases.len());
    let mut sent = BTreeMap::new();
    for case in &cases {
        assert!(!case.name.is_empty() && !case.source.is_empty(), "{}", case.name);
        if let Some(other) = sent.insert(&case.send, case.name) {
            panic!("{} sends the same bytes as {other}", case.name);
        }
    }
}

#[test]
fn every_case_has_its_expected_outcome() {
    let broker = Broker::start("--workers 2 --confirm write --connection-timeout 299s");
    let cases = cases::all();
    // After each case that ends its connection the client sends a dispatch for a held poll. If the broker
    // does not ignore it, the poll is gone at the end.
    let traps: Vec<Key> = cases.iter().map(|_| Key::fresh()).collect();
    let mut runners: Vec<(&Key, Client)> = traps
        .iter()
        .zip(&cases)
        .filter(|(_, case)| case.then.ends())
        .map(|(trap, _)| (trap, broker.client()))
        .collect();
    runners.iter_mut().for_each(|(trap, runner)| runner.send(trap.poll()));
    broker.expect_polls(runners.len());

    let next = AtomicUsize::new(0);
    let faults = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(index) else { return };
                    for arrival in ARRIVALS {
                        let run = Run { broker: &broker, case, trap: &traps[index], arrival };
                        if let Err(fault) = run.run() {
                            let line = format!("{} ({}), {arrival:?}: {fault}", case.name, case.source);
                            faults.lock().expect("no panic").push(line);
                        }
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().expect("no panic");
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));

    let held = cases.iter().filter(|case| case.then == Then::Hold).count() * ARRIVALS.len();
    let refused = cases.iter().filter(|case| case.then.refuses()).count() * ARRIVALS.len();
    broker.wait_for("rejected", refused as u64);
    broker.wait_for("warm", held as u64);
    for (trap, runner) in &mut runners {
        broker.deliver(trap, runner);
    }
    println!("{} cases, {} arrivals each", cases.len(), ARRIVALS.len());
}

impl Then {
    /// The broker closes the connection.
    fn ends(self) -> bool {
        matches!(self, Then::Close(_) | Then::Refuse(_) | Then::RefuseHead(_))
    }

    fn refuses(self) -> bool {
        matches!(self, Then::Refuse(_) | Then::RefuseHead(_))
    }
}

/// A case with one arrival.
struct Run<'a> {
    broker: &'a Broker,
    case: &'a Case,
    trap: &'a Key,
    arrival: Arrival,
}

type Outcome<T = ()> = Result<T, String>;

impl Run<'_> {
    fn run(&self) -> Outcome {
        let mut client = self.broker.client();
        match self.case.then {
            Then::Clean(statuses) => {
                self.send(&mut client, trigger::CONNECT);
                for status in statuses {
                    let response = final_response(&mut client)?;
                    expect(response.status == *status, || format!("{status} and not {response:?}"))?;
                    expect(!response.says_close(), || format!("an answer announces a close: {response:?}"))?;
                }
                clean(&mut client)
            }
            Then::Close(statuses) | Then::Refuse(statuses) => {
                self.send(&mut client, &self.trap.dispatch());
                for (status, last) in numbered(statuses) {
                    let response = final_response(&mut client)?;
                    expect(response.status == *status, || format!("{status} and not {response:?}"))?;
                    expect(response.says_close() == last, || {
                        format!("wrong Connection field: {response:?}")
                    })?;
                    if last && self.case.then.refuses() {
                        expect(!response.error().is_empty(), || "a refusal without a reason".into())?;
                    }
                }
                self.ended(&mut client)
            }
            Then::RefuseHead(status) => {
                self.send(&mut client, &self.trap.dispatch());
                let response = client.response_to_head();
                expect(response.status == status, || format!("{status} and not {response:?}"))?;
                expect(response.says_close(), || format!("it must say close: {response:?}"))?;
                self.ended(&mut client)
            }
            Then::Wait => {
                self.send(&mut client, b"");
                expect_end(&mut client, MOMENT, End::Silent)?;
                client.finish();
                expect_end(&mut client, PATIENCE, End::Closed)
            }
            Then::Hold => {
                self.send(&mut client, b"");
                let message = self.key().message();
                let until = Instant::now() + PATIENCE;
                while !self.broker.dispatch(&message) {
                    expect(Instant::now() < until, || "it is not held".into())?;
                    thread::sleep(Duration::from_millis(1));
                }
                let run = final_response(&mut client)?;
                expect((run.status, run.text()) == (200, &message), || format!("a run and not {run:?}"))?;
                client.send(trigger::CONNECT);
                clean(&mut client)
            }
        }
    }

    fn key(&self) -> Key {
        Key::new(&format!("{}_{:?}", self.trap.deployment, self.arrival))
    }

    /// Sends the case and `next`.
    fn send(&self, client: &mut Client, next: &[u8]) {
        let text = self.case.send.replace("@KEY@", &self.key().deployment);
        let latin1 = text.chars().map(|char| u8::try_from(u32::from(char)).expect("Latin-1"));
        let mut bytes: Vec<u8> = latin1.collect();
        let len = bytes.len();
        bytes.extend_from_slice(next);
        // The broker may refuse it and close the connection before all of it is sent.
        match self.arrival {
            Arrival::Whole => {
                let _ = client.try_send(&bytes);
            }
            Arrival::Parts => {
                let quarter = (len / 4).max(1);
                for part in [0..quarter, quarter..2 * quarter, 2 * quarter..len, len..bytes.len()] {
                    let _ = client.try_send(bytes.get(part).unwrap_or_default());
                    thread::sleep(Duration::from_millis(3));
                }
            }
            Arrival::Bytes => {
                // Long cases are long in one place only: larger steps are enough.
                let step = 1 + len / 1_000;
                let _ = bytes.chunks(step).try_for_each(|byte| client.try_send(byte));
            }
        }
    }

    /// Checks that the connection has ended. A dispatch sent now must have no effect.
    fn ended(&self, client: &mut Client) -> Outcome {
        let end = client.end(PATIENCE);
        // After its last answer the broker closes the connection immediately. Bytes that arrive during the
        // close turn it into a reset. After a refusal the broker lingers.
        let may_cross = !self.case.then.refuses() && !matches!(self.arrival, Arrival::Whole);
        let expected = end == End::Closed || end == End::Reset && may_cross;
        expect(expected, || format!("{end:?} and not closed, after {:?}", client.leftover()))?;
        let _ = client.try_send(self.trap.dispatch());
        Ok(())
    }
}

/// The statuses, each with whether it is the last one.
fn numbered(statuses: &'static [u16]) -> impl Iterator<Item = (&'static u16, bool)> {
    statuses.iter().enumerate().map(|(index, status)| (status, index + 1 == statuses.len()))
}

/// The request after the case gets its own answer, and so does one more.
fn clean(client: &mut Client) -> Outcome {
    for which in ["pipelined", "later"] {
        if which == "later" {
            client.send(trigger::CONNECT);
        }
        let response = final_response(client)?;
        let own = response.status == 200 && response.text().starts_with(r#"{"connectionTimeoutMs":299000,"#);
        expect(own, || format!("the {which} request is answered with {response:?}"))?;
    }
    expect_end(client, Duration::from_millis(1), End::Silent)
}

/// The next response that is not interim.
fn final_response(client: &mut Client) -> Outcome<Response> {
    loop {
        match client.read(PATIENCE) {
            Ok(response) if response.status < 200 => {}
            Ok(response) => return Ok(response),
            Err(end) => return Err(format!("no answer but {end:?}, after {:?}", client.leftover())),
        }
    }
}

fn expect_end(client: &mut Client, within: Duration, expected: End) -> Outcome {
    let end = client.end(within);
    expect(end == expected, || format!("{end:?} and not {expected:?}, after {:?}", client.leftover()))
}

fn expect(holds: bool, fault: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(fault()) }
}
