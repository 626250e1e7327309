//! Floods: connections, polls, keys, incomplete requests.

use crate::support::broker::Broker;
use crate::support::client::{Client, End};
use crate::support::trigger::Key;
use crate::support::{MOMENT, PATIENCE};
use crate::{ATTACKER, Attack, Scene};
use ahash::RandomState;
use pilotlight::broker::json::Number;
use pilotlight::broker::pools::KeyRef;
use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "connections_from_one_address",
        what: "50,000 connections from one address, opened as fast as possible and kept open",
        flags: "--max-connections-per-address 1000",
        run: connections,
    },
    Attack {
        name: "polls_of_one_key",
        what: "2,000 polls: of one key, of one deployment in many versions, and of many deployments",
        flags: "--max-polls-per-key 50 --max-polls-per-deployment 200 --max-connections-per-address 1500",
        run: polls,
    },
    Attack {
        name: "silent_connections_up_to_the_limit",
        what: "connections that send nothing, up to the limit of all connections and beyond",
        flags: "--max-connections 2000",
        run: silent,
    },
    Attack {
        name: "slowloris",
        what: "1,500 requests, one byte every 100 ms: half of them polls, half dispatches",
        flags: "--request-timeout 2s",
        run: slowloris,
    },
    Attack {
        name: "hash_flooding",
        what: "2,000 keys that fall into one of 256 buckets for anyone who knows the hash's seed",
        flags: "",
        run: hash_flooding,
    },
];

fn connections(scene: &Scene) -> String {
    const TRIED: usize = 50_000;
    const MAX: usize = 1_000;
    // The broker accepts them roughly in order and keeps the first ones.
    let mut kept: Vec<Client> = Vec::new();
    let mut others: VecDeque<Client> = VecDeque::new();
    let mut most = 0;
    for tried in 0..TRIED {
        let client = scene.attacker();
        if kept.len() < MAX + 200 {
            kept.push(client);
        } else {
            others.push_back(client);
        }
        if others.len() > 500 {
            // A reset leaves no port in TIME_WAIT.
            others.pop_front().into_iter().for_each(Client::reset);
        }
        if tried % 1_000 == 0 {
            most = most.max(scene.broker.counter("connections"));
        }
    }
    others.into_iter().for_each(Client::reset);
    scene.broker.wait_until("most are refused", || {
        most = most.max(scene.broker.counter("connections"));
        // The broker does not count connections that were reset before it accepted them.
        scene.broker.counter("refused_per_address") >= TRIED as u64 / 2
    });
    let refused = scene.broker.counter("refused_per_address");
    // Plus 100 runners, each with one connection or, for a moment, two; and the supervisor.
    assert!(most <= (MAX + 250) as u64, "{most} connections at once");
    assert!(refused <= (TRIED - MAX) as u64, "{refused}");
    assert_eq!(scene.broker.counter("accept_errors"), 0);
    let line = "flag=\"--max-connections-per-address\"";
    scene.broker.wait_until("the line in the log", || scene.broker.log().contains(line));
    kept.into_iter().for_each(Client::reset);
    "never more than 1,000 open, the others closed; one line in the log every 30 s".to_owned()
}

fn polls(scene: &Scene) -> String {
    let one = Key::fresh();
    let of_a_version = Key::fresh();
    let mut clients: Vec<Client> = Vec::new();
    let mut flood = |count: usize, key: &dyn Fn(usize) -> Key| {
        for index in 0..count {
            let mut client = scene.attacker();
            let _ = client.try_send(key(index).poll());
            clients.push(client);
        }
    };
    flood(500, &|_| one.clone());
    scene.broker.wait_until("each poll of the key is held or refused", || {
        scene.broker.waiting(&one) + scene.broker.counter("refused_per_key") >= 500
    });
    let of_one_key = scene.broker.waiting(&one);
    flood(500, &|index| of_a_version.clone().version(&format!("2026.{index}")));
    let of_deployment = || -> u64 {
        let status = scene.broker.status();
        let rows = status["keys"].as_array().expect("keys").iter();
        let rows = rows.filter(|row| row["deployment"] == of_a_version.deployment);
        rows.map(|row| row["waiting"].as_u64().expect("a number")).sum()
    };
    scene.broker.wait_until("each poll of the deployment is held or refused", || {
        of_deployment() + scene.broker.counter("refused_per_deployment") >= 500
    });
    let of_one_deployment = of_deployment();
    flood(1_000, &|_| Key::fresh());
    // Each of the two workers has its own bound.
    assert!(of_one_key <= 100, "{of_one_key} polls of one key");
    assert!(of_one_deployment <= 400, "{of_one_deployment} polls of one deployment");
    thread::sleep(MOMENT);
    let mut answered = 0;
    for client in &mut clients {
        answered += usize::from(client.read(Duration::from_millis(1)).is_ok());
    }
    assert_eq!(answered, 0, "a poll is closed, never answered");
    clients.into_iter().for_each(Client::reset);
    "per worker 50 held of the key and 200 of the deployment, the others closed without an answer".to_owned()
}

fn silent(scene: &Scene) -> String {
    let crowd: Vec<Client> = (0..4_000).map(|_| scene.attacker()).collect();
    scene.broker.wait_until("half of them are evicted", || scene.broker.counter("evicted") >= 2_000);
    // The workers report at different moments, and honest clients come and go. The simulation counts exactly.
    let connections = || scene.broker.counter("connections");
    assert!(connections() <= 2_000 + 100, "{}", connections());
    scene.broker.wait_until("at most the limit is open", || connections() <= 2_000);
    crowd.into_iter().for_each(Client::reset);
    "the broker evicts those that have been silent longest; clients that send something stay".to_owned()
}

fn slowloris(scene: &Scene) -> String {
    const COUNT: usize = 1_500;
    let before = scene.broker.counter("requests_timed_out");
    let key = Key::fresh();
    let (poll, dispatch) = (key.poll().into_bytes(), key.dispatch());
    let mut clients: Vec<(Client, usize)> = (0..COUNT).map(|_| (scene.attacker(), 0)).collect();
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        for (index, (client, sent)) in clients.iter_mut().enumerate() {
            let request = if index % 2 == 0 { &poll } else { &dispatch };
            let _ = client.try_send(&request[*sent..*sent + 1]);
            *sent += 1;
        }
        thread::sleep(Duration::from_millis(100));
        if scene.broker.counter("requests_timed_out") - before >= COUNT as u64 {
            break;
        }
    }
    for (client, sent) in &mut clients {
        let end = client.end(PATIENCE);
        assert!(matches!(end, End::Closed | End::Reset), "{end:?} after {sent} bytes");
    }
    assert_eq!(scene.broker.counter("requests_timed_out") - before, COUNT as u64);
    "each closed after --request-timeout, without an answer".to_owned()
}

/// The broker's hash of a key with this seed.
fn hash(key: &Key, seed: &RandomState) -> u64 {
    let number = |text: &str| Number::parse(text.as_bytes()).expect("a number");
    let key = KeyRef {
        deployment: &key.deployment,
        version: &key.version,
        cpu: number(&key.cpu),
        memory: number(&key.memory),
    };
    key.hash(seed)
}

fn fullest_bucket(keys: &[Key], seed: &RandomState) -> usize {
    let mut buckets = vec![0; 256];
    keys.iter().for_each(|key| buckets[hash(key, seed) as usize % 256] += 1);
    buckets.into_iter().max().unwrap_or(0)
}

fn hash_flooding(scene: &Scene) -> String {
    const COUNT: usize = 2_000;
    let known = RandomState::with_seeds(1, 2, 3, 4);
    let any = (0..).map(|index| Key::new(&format!("deployment_flood_{index}")));
    let chosen: Vec<Key> = any.filter(|key| hash(key, &known).is_multiple_of(256)).take(COUNT).collect();
    let usual: Vec<Key> = (0..COUNT).map(|index| Key::new(&format!("deployment_usual_{index}"))).collect();
    assert_eq!(fullest_bucket(&chosen, &known), COUNT, "they collide for a known seed");
    assert!(fullest_bucket(&chosen, &RandomState::with_seeds(5, 6, 7, 8)) < 40, "and for no other seed");

    // Processor time on a second broker, which has no other load.
    let quiet = Broker::start("--workers 1");
    let mut supervisor = quiet.supervisor();
    let mut took = |keys: &[Key]| {
        let before = quiet.cpu_time();
        for key in keys.iter().chain(keys) {
            assert!(!supervisor.ask(key.dispatch()).did_warm_start());
        }
        (quiet.cpu_time() - before).as_micros() as usize / (2 * COUNT)
    };
    took(&usual[..200]);
    let (usual_us, chosen_us) = (took(&usual), took(&chosen));
    assert!(chosen_us < 2 * usual_us + 20, "{chosen_us} us for each of the chosen, {usual_us} us for others");
    drop(supervisor);

    let mut attacker = Client::connect_from(ATTACKER, scene.broker.runner).expect("connected");
    for key in &chosen {
        assert!(!attacker.ask(key.dispatch()).did_warm_start());
    }
    "they spread like other keys, since the seed changes at every start; a dispatch costs the same".to_owned()
}
