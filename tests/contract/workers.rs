//! Several workers: a poll on each, a dispatch on another.

use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::judged::engine;
use crate::support::trigger::{self, Key};
use std::collections::{BTreeMap, BTreeSet};
use std::thread;

const WORKERS: usize = 3;
/// One in about a hundred of these brokers has one.
const COLLISIONS_MAX: u64 = 3;

/// Opens polls, each of a key of its own, until every worker holds `each` of them.
fn poll_on_every_core(broker: &Broker, workers: usize, each: usize) -> Vec<Vec<(Key, Client)>> {
    let mut polls: Vec<Vec<(Key, Client)>> = (0..workers).map(|_| Vec::new()).collect();
    while polls.iter().any(|polls| polls.len() < each) {
        let mut batch: Vec<(Key, Client)> =
            (0..4 * workers).map(|_| (Key::fresh(), broker.client())).collect();
        batch.iter_mut().for_each(|(key, client)| client.send(key.poll()));
        broker.expect_polls(batch.len());
        let workers = cores_of(broker, "waiting");
        for (key, client) in batch {
            let on_worker = &mut polls[workers[&key.deployment]];
            if on_worker.len() < each {
                on_worker.push((key, client));
            }
        }
    }
    polls
}

/// For each key with such a number: the worker that has it.
fn cores_of(broker: &Broker, number: &str) -> BTreeMap<String, usize> {
    let status = broker.status();
    let keys = status["keys"].as_array().expect("keys");
    let worker = |row: &serde_json::Value| {
        let mut workers = row["workers"].as_array().expect("workers").iter();
        workers
            .find(|worker| worker[number] != 0)
            .map(|worker| worker["worker"].as_u64().expect("a worker") as usize)
    };
    let deployment = |row: &serde_json::Value| row["deployment"].as_str().expect("a string").to_owned();
    keys.iter().filter_map(|row| Some((deployment(row), worker(row)?))).collect()
}

/// One supervisor's connection on every worker: a worker counts the cold of its own connections.
fn supervisor_on_every_core(broker: &Broker, workers: usize) -> Vec<Client> {
    let mut supervisors: Vec<Option<Client>> = (0..workers).map(|_| None).collect();
    while supervisors.iter().any(Option::is_none) {
        let mut batch: Vec<(Key, Client)> =
            (0..4 * workers).map(|_| (Key::fresh(), broker.supervisor())).collect();
        for (key, client) in &mut batch {
            assert!(!client.ask(key.dispatch()).did_warm_start());
        }
        let mut workers = BTreeMap::new();
        broker.wait_until("all cold on a worker", || {
            workers = cores_of(broker, "cold");
            batch.iter().all(|(key, _)| workers.contains_key(&key.deployment))
        });
        for (key, client) in batch {
            supervisors[workers[&key.deployment]].get_or_insert(client);
        }
    }
    supervisors.into_iter().flatten().collect()
}

#[test]
fn a_dispatch_on_any_core_finds_a_poll_on_any_core() {
    for mode in ["read", "ack", "write"] {
        let broker = Broker::start(&format!("--workers {WORKERS} --confirm {mode}"));
        let mut supervisors = supervisor_on_every_core(&broker, WORKERS);
        let polls = poll_on_every_core(&broker, WORKERS, WORKERS);
        for polls in polls {
            for ((key, mut poll), supervisor) in polls.into_iter().zip(&mut supervisors) {
                let message = key.message();
                supervisor.send(trigger::dispatch(&message));
                assert_eq!(poll.response().text(), message, "{mode}");
                drop(poll);
                assert!(supervisor.response().did_warm_start(), "{mode}");
                assert!(!supervisor.ask(trigger::dispatch(&message)).did_warm_start(), "{mode}");
            }
        }
        broker.wait_for("warm", (WORKERS * WORKERS) as u64);
        // Which keys share a bucket of the hint table is drawn at every start: a collision costs one
        // offer that comes back. Only where a poll waits is a run offered otherwise, once.
        let offered = (WORKERS * (WORKERS - 1)) as u64;
        let (mut sent, mut returned) = (0, 0);
        broker.wait_until("one offer for each run of another worker", || {
            (sent, returned) = (broker.counter("offers_sent"), broker.counter("offers_returned"));
            sent == offered + returned
        });
        assert!(returned <= COLLISIONS_MAX, "{mode}: {returned} of {sent} offers found nobody");
    }
}

/// Where workers have one table of descriptors, a sleeper's mail is handled by its sender.
#[test]
fn a_run_that_crosses_need_not_wake_its_core() {
    for tables in ["process", "worker"] {
        let handles_inline = tables == "process" && engine() == "epoll";
        let broker = Broker::start(&format!("--workers 2 --confirm write --descriptor-tables {tables}"));
        let mut supervisors = supervisor_on_every_core(&broker, 2);
        for (polls, supervisor) in
            poll_on_every_core(&broker, 2, 8).into_iter().zip(supervisors.iter_mut().rev())
        {
            for (key, mut poll) in polls {
                let message = key.message();
                assert!(supervisor.ask(trigger::dispatch(&message)).did_warm_start(), "{tables}");
                assert_eq!(poll.response().text(), message, "{tables}");
            }
        }
        broker.wait_until("all runs cross", || broker.counter("offers_sent") >= 16);
        assert_eq!(broker.counter("mail_handled_inline") > 0, handles_inline, "{tables}");
    }
}

/// Whoever dispatches, every poll of the key is found before the answer is false.
#[test]
fn polls_of_one_key_on_every_core_are_all_found() {
    for workers in [2, 4] {
        let broker = Broker::start(&format!("--workers {workers} --confirm write"));
        let key = Key::fresh();
        let mut polls = Vec::new();
        while broker.per_core(&key, "waiting").contains(&0) {
            polls.append(&mut broker.polls(&key, 2 * workers));
        }
        let mut supervisors = supervisor_on_every_core(&broker, workers);
        let mut sent = BTreeSet::new();
        for count in 0..polls.len() {
            let supervisor = &mut supervisors[count % workers];
            let message = key.message();
            assert!(supervisor.ask(trigger::dispatch(&message)).did_warm_start());
            sent.insert(message);
        }
        for supervisor in &mut supervisors {
            assert!(!supervisor.ask(key.dispatch()).did_warm_start());
        }
        let received = polls.iter_mut().map(|poll| poll.response().text().to_owned()).collect();
        assert_eq!(sent, received);
    }
}

/// Many runners that poll again and again, many supervisors at once: every true is one run, received
/// once, by a runner of its key.
#[test]
fn every_true_is_one_run_received_once() {
    const KEYS: usize = 5;
    const RUNNERS: usize = 20;
    const SUPERVISORS: usize = 6;
    const DISPATCHES: usize = 60;
    const LAST: &str = r#""friendlyId":"last_"#;
    let broker = Broker::start("--workers 3 --confirm read");
    let keys: Vec<Key> = (0..KEYS).map(|_| Key::fresh()).collect();
    let (runner, supervisor) = (broker.runner, broker.dispatch);
    let runners: Vec<_> = (0..RUNNERS)
        .map(|index| {
            let key = keys[index % KEYS].clone();
            thread::spawn(move || {
                let mut received = Vec::new();
                loop {
                    let mut poll = Client::connect(runner);
                    poll.send(key.poll());
                    let run = poll.response().text().to_owned();
                    poll.finish();
                    poll.expect_closed();
                    if run.contains(LAST) {
                        return received;
                    }
                    received.push((key.deployment.clone(), run));
                }
            })
        })
        .collect();
    let supervisors: Vec<_> = (0..SUPERVISORS)
        .map(|index| {
            let keys = keys.clone();
            thread::spawn(move || {
                let mut client = Client::connect(supervisor);
                let mut warm = Vec::new();
                for count in 0..DISPATCHES {
                    let key = &keys[(index + count) % KEYS];
                    let message = key.message();
                    if client.ask(trigger::dispatch(&message)).did_warm_start() {
                        warm.push((key.deployment.clone(), message));
                    }
                }
                warm
            })
        })
        .collect();
    let mut warm: Vec<_> = supervisors.into_iter().flat_map(|thread| thread.join().expect("done")).collect();
    // The polls that are left over end with a run that says so.
    for index in 0..RUNNERS {
        let last = keys[index % KEYS].message().replacen(r#""friendlyId":"run_"#, LAST, 1);
        broker.wait_until("a last run for everyone", || broker.dispatch(&last));
    }
    let mut received: Vec<_> = runners.into_iter().flat_map(|thread| thread.join().expect("done")).collect();
    warm.sort();
    received.sort();
    assert_eq!(warm, received);
    assert!(warm.len() > RUNNERS, "{} warm starts", warm.len());
}
