//! Several workers: a dispatch on one worker finds a poll on another.

use crate::support::binary::engine;
use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::trigger::{self, Key};
use std::collections::{BTreeMap, BTreeSet};
use std::thread;

const WORKERS: usize = 3;
/// About one of 100 of these brokers has one hint collision.
const COLLISIONS_MAX: u64 = 3;

/// Opens polls, each with its own key, until every worker holds `each` of them.
fn polls_on_every_worker(broker: &Broker, workers: usize, each: usize) -> Vec<Vec<(Key, Client)>> {
    let mut polls: Vec<Vec<(Key, Client)>> = (0..workers).map(|_| Vec::new()).collect();
    while polls.iter().any(|polls| polls.len() < each) {
        let mut batch: Vec<(Key, Client)> =
            (0..4 * workers).map(|_| (Key::fresh(), broker.client())).collect();
        batch.iter_mut().for_each(|(key, client)| client.send(key.poll()));
        broker.expect_polls(batch.len());
        let workers = workers_of(broker, "waiting");
        for (key, client) in batch {
            let on_worker = &mut polls[workers[&key.deployment]];
            if on_worker.len() < each {
                on_worker.push((key, client));
            }
        }
    }
    polls
}

/// For each key with a figure other than 0: the worker that has it.
fn workers_of(broker: &Broker, number: &str) -> BTreeMap<String, usize> {
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

/// Opens a supervisor's connection to every worker. A worker counts the cold dispatches of its connections.
fn supervisors_on_every_worker(broker: &Broker, workers: usize) -> Vec<Client> {
    let mut supervisors: Vec<Option<Client>> = (0..workers).map(|_| None).collect();
    while supervisors.iter().any(Option::is_none) {
        let mut batch: Vec<(Key, Client)> =
            (0..4 * workers).map(|_| (Key::fresh(), broker.supervisor())).collect();
        for (key, client) in &mut batch {
            assert!(!client.ask(key.dispatch()).did_warm_start());
        }
        let mut workers = BTreeMap::new();
        broker.wait_until("all cold on a worker", || {
            workers = workers_of(broker, "cold");
            batch.iter().all(|(key, _)| workers.contains_key(&key.deployment))
        });
        for (key, client) in batch {
            supervisors[workers[&key.deployment]].get_or_insert(client);
        }
    }
    supervisors.into_iter().flatten().collect()
}

#[test]
fn a_dispatch_finds_a_poll_on_any_worker() {
    for mode in ["read", "ack", "write"] {
        let broker = Broker::start(&format!("--workers {WORKERS} --confirm {mode}"));
        let mut supervisors = supervisors_on_every_worker(&broker, WORKERS);
        let polls = polls_on_every_worker(&broker, WORKERS, WORKERS);
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
        // Without a collision a run is offered once, to the worker with the poll. Two keys that share a
        // bucket of the hint table cost one offer that returns; the buckets change at every start.
        let offered = (WORKERS * (WORKERS - 1)) as u64;
        let (mut sent, mut returned) = (0, 0);
        broker.wait_until("one offer for each run of another worker", || {
            (sent, returned) = (broker.counter("offers_sent"), broker.counter("offers_returned"));
            sent == offered + returned
        });
        assert!(returned <= COLLISIONS_MAX, "{mode}: {returned} of {sent} offers found no poll");
    }
}

/// With one descriptor table for all workers, a sender handles a blocked worker's mail inline.
#[test]
fn a_blocked_workers_mail_is_handled_inline() {
    for tables in ["process", "worker"] {
        let handles_inline = tables == "process" && engine() == "epoll";
        let broker = Broker::start(&format!("--workers 2 --confirm write --descriptor-tables {tables}"));
        let mut supervisors = supervisors_on_every_worker(&broker, 2);
        for (polls, supervisor) in
            polls_on_every_worker(&broker, 2, 8).into_iter().zip(supervisors.iter_mut().rev())
        {
            for (key, mut poll) in polls {
                let message = key.message();
                assert!(supervisor.ask(trigger::dispatch(&message)).did_warm_start(), "{tables}");
                assert_eq!(poll.response().text(), message, "{tables}");
            }
        }
        broker.wait_until("every run offered to the other worker", || broker.counter("offers_sent") >= 16);
        assert_eq!(broker.counter("mail_handled_inline") > 0, handles_inline, "{tables}");
    }
}

/// Every poll of the key is found before a dispatch to any worker is cold.
#[test]
fn all_polls_of_a_key_are_found() {
    for workers in [2, 4] {
        let broker = Broker::start(&format!("--workers {workers} --confirm write"));
        let key = Key::fresh();
        let mut polls = Vec::new();
        while broker.per_worker(&key, "waiting").contains(&0) {
            polls.append(&mut broker.polls(&key, 2 * workers));
        }
        let mut supervisors = supervisors_on_every_worker(&broker, workers);
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

/// Many runners that keep polling and many supervisors: every `true` is one run, received once, by a
/// runner of its key.
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
    // The remaining polls end with a run that the runner recognises as the last one.
    for index in 0..RUNNERS {
        let last = keys[index % KEYS].message().replacen(r#""friendlyId":"run_"#, LAST, 1);
        broker.wait_until("a last run for each runner", || broker.dispatch(&last));
    }
    let mut received: Vec<_> = runners.into_iter().flat_map(|thread| thread.join().expect("done")).collect();
    warm.sort();
    received.sort();
    assert_eq!(warm, received);
    assert!(warm.len() > RUNNERS, "{} warm starts", warm.len());
}
