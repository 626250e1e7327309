//! Polls for other tenants' runs.

use crate::support::token::{SECRET, forgeries};
use crate::support::trigger::Key;
use crate::{Attack, Scene};

pub const ATTACKS: &[Attack] = &[Attack {
    name: "stealing_polls",
    what: "polls for every honest runner's deployment: its bare id, and tokens that are tampered with, expired, signed with another secret or with none, of another version, alg none, …",
    flags: "--token-mode enforce --token-secret-file tests/siege/token-secret",
    run: with_forgeries,
}];

fn with_forgeries(scene: &Scene) -> String {
    assert_eq!(include_str!("token-secret").trim_end(), SECRET);
    let mut count = 0;
    for victim in scene.fleet.keys() {
        for bad in forgeries(&victim.deployment) {
            let poll = Key { deployment: bad.token, ..victim.clone() }.version(bad.version).poll();
            let refusal = scene.attacker().ask(poll);
            assert_eq!((refusal.status, refusal.says_close()), (401, true), "{}: {refusal:?}", bad.what);
            count += 1;
        }
    }
    let kinds = forgeries("a").len();
    assert!(kinds >= 40, "{kinds}");
    let counters = ["bare", "malformed", "algorithm", "signature", "claims", "expired", "version"];
    let counted = || counters.iter().map(|name| scene.broker.counter(&format!("token_{name}"))).sum::<u64>();
    scene.broker.wait_until("counted", || counted() == count);
    format!(
        "401 each time, {kinds} forgeries for each of them, counted by reason; no one but the runner got a run"
    )
}
