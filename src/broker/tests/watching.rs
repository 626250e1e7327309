//! What a worker reports: why a dispatch is cold, times, events.

use super::super::event::{AttemptEnd, ColdReason, Event, Outcome};
use super::super::report::{Allowance, KeyReport};
use super::*;

fn poll_for(deployment: &str, version: &str, cpu: &str) -> Vec<u8> {
    String::from_utf8(POLL.to_vec())
        .unwrap()
        .replace("deployment-id: d\r\n", &format!("deployment-id: {deployment}\r\n"))
        .replace("version: 1\r\n", &format!("version: {version}\r\n"))
        .replace("cpu: 0.5\r\n", &format!("cpu: {cpu}\r\n"))
        .into_bytes()
}

impl Bench {
    fn hold(&mut self, slot: u32, poll: &[u8]) {
        self.accept(slot);
        assert_eq!(self.receive(slot, poll), []);
    }

    /// Dispatches a run of `d`, version 1, 0.5 vCPU on a new connection. Returns why it is cold.
    fn cold(&mut self, slot: u32) -> ColdReason {
        let before = self.broker.counters().answered_false();
        self.dispatch(slot);
        assert_eq!(self.broker.counters().answered_false(), before + 1);
        match self.events.pop() {
            Some(Event::Dispatch(event)) => match event.outcome {
                Outcome::Cold(reason) => reason,
                end => panic!("{end:?}"),
            },
            event => panic!("{event:?}"),
        }
    }

    fn row(&mut self) -> KeyReport {
        self.command(Command::Report { keys: Some(KeyPage::default()), dispatch_events: None });
        let rows = self.reports.pop().unwrap().keys;
        rows.into_iter().find(|row| (&*row.deployment, &*row.version, row.cpu) == ("d", "1", 0.5)).unwrap()
    }
}

#[test]
fn the_cold_reason_names_the_nearest_runner() {
    let mut bench = Bench::new(settings());
    assert_eq!(bench.cold(0), ColdReason::NoRunner);
    bench.hold(1, &poll_for("other", "1", "0.5"));
    assert_eq!(bench.cold(2), ColdReason::NoRunner);
    bench.hold(3, &poll_for("d", "2", "0.5"));
    assert_eq!(bench.cold(4), ColdReason::OtherVersion);
    bench.hold(5, &poll_for("d", "1", "4"));
    assert_eq!(bench.cold(6), ColdReason::OtherMachineSize);
    bench.reset(5);
    assert_eq!(bench.cold(7), ColdReason::OtherVersion);
    bench.reset(3);
    assert_eq!(bench.cold(8), ColdReason::NoRunner);
    let counters = bench.broker.counters();
    assert_eq!((counters.cold_no_runner, counters.cold_other_version), (3, 2));
    assert_eq!((counters.cold_other_machine_size, counters.answered_false()), (1, 6));
}

#[test]
fn the_cold_reason_considers_other_workers() {
    let shared = SharedTable::default();
    let mut here = Bench::on_worker(0, settings(), shared.clone());
    let mut there = Bench::on_worker(1, settings(), shared);
    there.hold(0, &poll_for("d", "2", "0.5"));
    assert_eq!(here.cold(0), ColdReason::OtherVersion);
    there.hold(1, &poll_for("d", "1", "0.25"));
    assert_eq!(here.cold(1), ColdReason::OtherMachineSize);
    there.reset(0);
    there.reset(1);
    assert_eq!(here.cold(2), ColdReason::NoRunner);
}

#[test]
fn the_cold_reason_considers_parked_cordoned_and_claimed_polls() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.pass_ms(29_500);
    assert_eq!(bench.cold(1), ColdReason::Parked);
    let row = bench.row();
    assert_eq!((row.waiting, row.parked, row.cordoned, row.claimed), (1, 1, 0, 0));
    assert_eq!(bench.broker.counters().polls_guarded, 1);
    bench.reset(0);
    assert_eq!(bench.cold(2), ColdReason::NoRunner);

    let node = Selector::Node("node-1".to_owned());
    bench.command(Command::Cordon(node.clone()));
    bench.poll(0);
    assert_eq!(bench.cold(3), ColdReason::Cordoned);
    let row = bench.row();
    assert_eq!((row.waiting, row.parked, row.cordoned), (1, 0, 1));
    // Uncordoned too close to its timeout: parked.
    bench.pass_ms(29_600);
    bench.command(Command::Uncordon(node));
    assert_eq!(bench.cold(4), ColdReason::Parked);
    bench.reset(0);

    bench.poll(0);
    bench.dispatch(5);
    assert_eq!(bench.cold(6), ColdReason::NoRunner);
    let row = bench.row();
    assert_eq!((row.waiting, row.claimed), (1, 1));
    bench.reset(0);

    bench.command(Command::Cordon(Selector::Deployment("d".to_owned())));
    assert_eq!(bench.cold(7), ColdReason::Cordoned);
    bench.command(Command::ShutDown);
    assert_eq!(bench.cold(8), ColdReason::ShuttingDown);
}

#[test]
fn a_dispatch_without_room_for_its_key_is_cold_for_the_key_limit() {
    let mut bench = Bench::new(Settings { keys_max: 1, ..settings() });
    bench.hold(0, &poll_for("other", "1", "0.5"));
    assert_eq!(bench.cold(1), ColdReason::KeyLimit);
}

#[test]
fn times_are_measured_between_turns() {
    let shared = SharedTable::default();
    let mut here = Bench::on_worker(0, settings(), shared.clone());
    let mut there = Bench::on_worker(1, settings(), shared);
    there.poll(0);
    there.pass_ms(1_000);
    here.now = there.now;
    here.dispatch(0);
    let Some(MeshMessage::Offer { key, offer }) = here.messages.pop() else { panic!("no offer") };
    there.pass_ms(3);
    there.input(Input::Mesh { from: 0, message: MeshMessage::Offer { key, offer } });
    there.sent(0);
    there.pass_ms(5);
    there.fin(0, Some(CLEAN));
    let times = there.broker.report(there.now, None).times;
    let all = [&times.matching, &times.waited, &times.delivery];
    assert_eq!(all.map(|one| (one.count(), one.sum_us())), [(1, 3_000), (1, 1_003_000), (1, 5_000)]);
}

#[test]
fn dispatches_are_reported_up_to_the_allowance() {
    let mut bench = Bench::new(Settings { events: false, ..settings() });
    assert_eq!((bench.dispatch(0).len(), bench.events.len()), (1, 0));
    bench.command(Command::Report { keys: None, dispatch_events: Some(Allowance { any: 2, traced: 0 }) });
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let traced = String::from_utf8(dispatch("1")).unwrap();
    let traced = traced.replace("Host: b", &format!("Host: b\r\nTraceparent: {trace}"));
    // In one piece, and in two.
    let (head, body) = traced.split_at(traced.len() - 9);
    bench.accept(1);
    bench.receive(1, traced.as_bytes());
    bench.accept(2);
    bench.receive(2, head.as_bytes());
    bench.receive(2, body.as_bytes());
    bench.dispatch(3);
    assert_eq!(bench.events.len(), 2);
    for event in bench.events.drain(..) {
        let Event::Dispatch(event) = event else { panic!("{event:?}") };
        assert_eq!(event.origin.traceparent.as_deref(), Some(trace));
        assert_eq!(event.key.unwrap().as_ref().deployment, "d");
    }
    // Polls are reported for the log only.
    bench.command(Command::Report { keys: None, dispatch_events: Some(Allowance { any: 9, traced: 0 }) });
    bench.poll(4);
    assert_eq!(bench.events.len(), 0);
}

#[test]
fn pages_of_keys_contain_every_key() {
    let mut bench = Bench::new(Settings { keys_max: 5_000, ..settings() });
    bench.accept(0);
    for key in 0..3_000 {
        bench.receive(0, &dispatch(&key.to_string()));
        bench.sent(0);
    }
    let (mut from, mut versions, mut pages) = (Some(0), std::collections::BTreeSet::new(), 0);
    while let Some(page) = from {
        let report = bench.broker.report(bench.now, Some(KeyPage { from: page }));
        assert!(report.keys.len() <= 1_024);
        versions.extend(report.keys.into_iter().map(|row| row.version));
        from = report.next_page;
        pages += 1;
    }
    assert_eq!(versions.len(), 3_000);
    assert!((3..=5).contains(&pages), "{pages}");
}

fn traced(flags: &str) -> Vec<u8> {
    let trace =
        format!("Host: b\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
    String::from_utf8(dispatch("1")).unwrap().replace("Host: b", &trace).into_bytes()
}

/// Sampled dispatches have a separate allowance, and those beyond it are counted. Their attempts are reported
/// under the same id.
#[test]
fn sampled_dispatches_are_reported_with_their_attempts() {
    let mut bench = Bench::new(Settings { events: false, ..settings() });
    bench.command(Command::Report { keys: None, dispatch_events: Some(Allowance { any: 1, traced: 2 }) });
    bench.poll(0);
    bench.accept(1);
    bench.receive(1, &traced("01"));
    bench.sent(0);
    bench.fin(0, Some(CLEAN));
    let events = std::mem::take(&mut bench.events);
    let [Event::Attempt(attempt), Event::Dispatch(warm)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((attempt.dispatch, attempt.traced, attempt.end), (warm.id, true, AttemptEnd::Confirmed));
    assert_eq!((warm.origin.traced, warm.outcome), (true, Outcome::Warm));
    // A dispatch that is not sampled uses the general allowance only.
    let traced_events = |bench: &mut Bench, slot, flags: &str| -> Vec<bool> {
        bench.accept(slot);
        bench.receive(slot, &traced(flags));
        let events = std::mem::take(&mut bench.events);
        events.iter().map(|event| matches!(event, Event::Dispatch(one) if one.origin.traced)).collect()
    };
    assert_eq!(traced_events(&mut bench, 2, "00"), [] as [bool; 0]);
    assert_eq!(traced_events(&mut bench, 3, "01"), [true]);
    assert_eq!(bench.broker.counters().dispatches_untraced, 0);
    assert_eq!(traced_events(&mut bench, 4, "01"), [] as [bool; 0]);
    assert_eq!(bench.broker.counters().dispatches_untraced, 1);
    // Without a collector no dispatch is traced, sampled or not.
    bench.command(Command::Report { keys: None, dispatch_events: Some(Allowance { any: 1, traced: 0 }) });
    assert_eq!(traced_events(&mut bench, 5, "01"), [false]);
    assert_eq!(traced_events(&mut bench, 6, "01"), [] as [bool; 0]);
    assert_eq!(bench.broker.counters().dispatches_untraced, 1);
}
