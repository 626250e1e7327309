//! Polls for another tenant's deployment.

use crate::support::PATIENCE;
use crate::support::broker::Broker;
use crate::support::client::{Client, End};
use crate::support::secrets::SecretFile;
use crate::support::token::{
    self, Bad, EXP, HEADER, OTHER_SECRET, SECRET, VERSION, forgeries, honest, payload,
};
use crate::support::trigger::Key;
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const VICTIM: &str = "deployment_of_a_victim";

/// The key of a runner that carries `token`.
fn carrying(token: &str) -> Key {
    Key::new(token).version(VERSION)
}

/// The key of the deployment's runs.
fn run_of(deployment: &str) -> Key {
    Key::new(deployment).version(VERSION)
}

fn poll_of(bad: &Bad) -> String {
    carrying(&bad.token).version(bad.version).poll()
}

/// The expected counts of these forgeries, by reason.
fn by_reason(forged: &[Bad]) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for bad in forged {
        *counts.entry(bad.reason).or_default() += 1;
    }
    counts
}

fn counted(broker: &Broker) -> BTreeMap<&'static str, u64> {
    const REASONS: [&str; 7] =
        ["bare", "malformed", "algorithm", "signature", "claims", "expired", "version"];
    let status = |reason: &str| broker.counter(&format!("token_{reason}"));
    REASONS.into_iter().map(|reason| (reason, status(reason))).filter(|(_, count)| *count > 0).collect()
}

#[test]
fn enforce_refuses_every_forgery_with_its_reason() {
    let file = SecretFile::new(&[SECRET]);
    for workers in [1, 2] {
        let broker = Broker::start(&format!("--workers {workers} {}", file.flags("enforce")));
        let honest = carrying(&honest(VICTIM, VERSION));
        let mut runner = broker.poll(&honest);
        let forged = forgeries(VICTIM);
        assert!(forged.len() >= 40, "{} forgeries", forged.len());
        for bad in &forged {
            let mut forger = broker.client();
            let answer = forger.ask(poll_of(bad));
            assert_eq!((answer.status, answer.error()), (401, bad.error.to_owned()), "{}", bad.what);
            assert!(answer.says_close(), "{}", bad.what);
            // RFC 9110 section 11.6.1.
            assert!(answer.field("www-authenticate").is_some(), "{answer:?}");
            forger.expect_closed();
        }
        broker.wait_until("counted", || counted(&broker) == by_reason(&forged));
        let metrics = broker.admin("/metrics");
        for (reason, _) in by_reason(&forged) {
            let line = format!("reason=\"{reason}\"}}");
            assert!(metrics.text().contains(&line), "{line} is not in {}", metrics.text());
        }
        // The run goes to the honest runner, and no other poll of the key is held.
        broker.deliver(&run_of(VICTIM), &mut runner);
        assert!(!broker.dispatch(&run_of(VICTIM).message()));
        drop(runner);
    }
}

#[test]
fn log_holds_and_counts_what_enforce_refuses() {
    let file = SecretFile::new(&[SECRET]);
    let broker = Broker::start(&format!("--workers 1 {}", file.flags("log")));
    let forged = forgeries(VICTIM);
    held_and_matched_by_claim(&broker, &forged);
    broker.wait_until("counted", || counted(&broker) == by_reason(&forged));
    assert_eq!(broker.counter("rejected"), 0);
}

#[test]
fn log_warns_and_names_the_last_runner() {
    let file = SecretFile::new(&[SECRET]);
    let broker = Broker::start(&format!("--workers 1 {}", file.flags("log")));
    let poll = broker.poll(&run_of(VICTIM));
    let line = "polls held that --token-mode enforce would refuse: 1 bare";
    broker.wait_until("a warning", || broker.log().contains(line));
    let log = broker.log();
    let warning = log.lines().find(|log_line| log_line.contains(line)).expect("just seen");
    assert!(warning.contains(&format!("deployment={VICTIM:?} node=\"node-1\"")), "{warning}");
    drop(poll);
}

#[test]
fn off_reads_tokens_and_counts_nothing() {
    let broker = Broker::start("--workers 1");
    let forged = forgeries(VICTIM);
    held_and_matched_by_claim(&broker, &forged);
    assert_eq!(counted(&broker), BTreeMap::new());
    assert_eq!(broker.counter("token_verifications"), 0);
    assert!(!broker.log().contains("token"), "{}", broker.log());
}

/// The broker holds all forgeries. Those that name the victim get its runs, the others get none.
fn held_and_matched_by_claim(broker: &Broker, forged: &[Bad]) {
    let mut polls: Vec<Client> = forged.iter().map(|_| broker.client()).collect();
    for (bad, poll) in forged.iter().zip(&mut polls) {
        poll.send(poll_of(bad));
    }
    broker.expect_polls(forged.len());
    let names_it = |bad: &Bad| bad.claims_deployment || bad.token == VICTIM;
    let versions: BTreeSet<&str> = forged.iter().map(|bad| bad.version).collect();
    for version in versions {
        let run = run_of(VICTIM).version(version);
        let polls = forged.iter().zip(&mut polls).filter(|(bad, _)| bad.version == version && names_it(bad));
        let polls: Vec<_> = polls.collect();
        // Each dispatch is answered when the runner that got it closes.
        let answers: Vec<_> = polls.iter().map(|_| broker.supervisor()).collect();
        let answers = answers.into_iter().map(|mut supervisor| {
            supervisor.send(run.dispatch());
            supervisor
        });
        let answers: Vec<Client> = answers.collect();
        for (bad, poll) in polls {
            assert_eq!(poll.read(PATIENCE).map(|run| run.status), Ok(200), "{}", bad.what);
            poll.finish();
        }
        assert!(answers.into_iter().all(|mut supervisor| supervisor.response().did_warm_start()));
        assert!(!broker.dispatch(&run.message()));
    }
    for (bad, poll) in forged.iter().zip(&mut polls).filter(|(bad, _)| !names_it(bad)) {
        assert_eq!(poll.end(Duration::from_millis(1)), End::Silent, "{}", bad.what);
    }
}

#[test]
fn bare_ids_and_tokens_share_a_pool() {
    let file = SecretFile::new(&[SECRET]);
    for flags in ["--workers 1".to_owned(), format!("--workers 1 {}", file.flags("log"))] {
        let broker = Broker::start(&flags);
        let bare = run_of("deployment_mixed");
        let mut polls = vec![
            broker.poll(&bare),
            broker.poll(&carrying(&honest("deployment_mixed", VERSION))),
            broker.poll(&carrying(&token::token(
                OTHER_SECRET,
                HEADER,
                &payload("deployment_mixed", VERSION, EXP),
            ))),
        ];
        broker.wait_for_polls(&bare, 3);
        assert_eq!(broker.status()["keys"].as_array().map(Vec::len), Some(1));
        // Newest first.
        while let Some(mut poll) = polls.pop() {
            broker.deliver(&bare, &mut poll);
        }
        assert!(!broker.dispatch(&bare.message()));
    }
}

#[test]
fn a_valid_token_is_verified_once_while_it_is_cached() {
    let file = SecretFile::new(&[SECRET]);
    let broker = Broker::start(&format!("--workers 1 --max-tokens 2 {}", file.flags("enforce")));
    let key = carrying(&honest("deployment_once", VERSION));
    let polls = broker.polls(&key, 50);
    broker.wait_for("token_verifications", 1);
    // Forgeries do not evict it from the cache.
    let forged: Vec<Bad> = forgeries("deployment_once");
    let forged: Vec<&Bad> = forged.iter().filter(|bad| bad.reason == "signature").collect();
    for bad in &forged {
        assert_eq!(broker.client().ask(poll_of(bad)).status, 401);
    }
    let again = broker.poll(&key);
    assert_eq!(broker.counter("token_verifications"), 1 + forged.len() as u64);
    drop((polls, again));
    let keys: Vec<String> = (0..5).map(|n| format!("deployment_many_{n}")).collect();
    for _ in 0..2 {
        for deployment in &keys {
            let mut poll = broker.poll(&carrying(&honest(deployment, VERSION)));
            broker.deliver(&run_of(deployment), &mut poll);
        }
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

#[test]
fn a_poll_whose_token_expires_gets_no_run() {
    let file = SecretFile::new(&[SECRET]);
    let broker = Broker::start(&format!("--workers 1 {}", file.flags("enforce")));
    let exp = unix_s() + 3;
    let expiring =
        |deployment: &str| carrying(&token::token(SECRET, HEADER, &payload(deployment, VERSION, exp)));
    let mut in_time = broker.poll(&expiring("deployment_in_time"));
    let mut late = broker.poll(&expiring("deployment_late"));
    broker.deliver(&run_of("deployment_in_time"), &mut in_time);
    broker.wait_until("expired", || unix_s() >= exp);
    assert!(!broker.dispatch(&run_of("deployment_late").message()));
    // The poll is held until its timeout; the next poll is refused.
    assert_eq!(broker.status()["waiting"], 1);
    let answer = broker.client().ask(expiring("deployment_late").poll());
    assert_eq!((answer.status, &*answer.error()), (401, "the deployment token has expired"));
    late.expect_silence(Duration::from_millis(1));
}

/// Sets a flag when dropped.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn secrets_are_rotated_under_load_without_a_gap() {
    const NEW: &str = OTHER_SECRET;
    let file = SecretFile::new(&[SECRET]);
    let broker = Broker::start(&format!("--workers 2 --confirm ack {}", file.flags("enforce")));
    let reload = |secrets: &[&str], words: &str| {
        let before = broker.log().matches(words).count();
        file.write(secrets);
        broker.signal(Signal::SIGHUP);
        broker.wait_until(words, || broker.log().matches(words).count() > before);
    };
    let old = |n: usize| carrying(&honest(&format!("deployment_old_{n}"), VERSION));
    let new = |n: usize| {
        let claims = payload(&format!("deployment_new_{n}"), VERSION, EXP);
        carrying(&token::token(NEW, HEADER, &claims))
    };
    assert_eq!(broker.client().ask(new(0).poll()).status, 401);

    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        // Dropped also when an assertion below fails, so that the threads end.
        let end = Raise(&stop);
        for n in 0..4 {
            let (broker, stop, rounds, old) = (&broker, &stop, &rounds, old(n));
            scope.spawn(move || {
                let mut poll = broker.client();
                let mut supervisor = broker.supervisor();
                let run = run_of(&format!("deployment_old_{n}"));
                while !stop.load(Ordering::Relaxed) {
                    // The answer is false until the poll is held.
                    poll.send(old.poll());
                    while !supervisor.ask(run.dispatch()).did_warm_start() {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                    assert_eq!(poll.response().status, 200);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let some_rounds = || {
            let until = rounds.load(Ordering::Relaxed) + 20;
            broker.wait_until("rounds", || rounds.load(Ordering::Relaxed) >= until);
        };
        some_rounds();
        // Both secrets are valid.
        reload(&[SECRET, NEW], "token secrets read again");
        let mut poll = broker.client();
        poll.send(new(0).poll());
        broker.wait_until("warm", || broker.dispatch(&run_of("deployment_new_0").message()));
        some_rounds();
        // An invalid file changes nothing.
        reload(&["", ""], "the secrets stay as they were");
        reload(&[" blank"], "has a blank at the start or end");
        some_rounds();
        drop(end);
    });
    assert_eq!(counted(&broker), BTreeMap::from([("signature", 1)]));
    // The old secret is invalid, although its tokens were cached.
    reload(&[NEW], "token secrets read again");
    let answer = broker.client().ask(old(0).poll());
    assert_eq!(answer.status, 401);
    assert!(answer.error().contains("not signed with a known secret"), "{}", answer.error());
    let mut poll: Client = broker.client();
    poll.send(new(1).poll());
    broker.wait_until("warm", || broker.dispatch(&run_of("deployment_new_1").message()));
}
