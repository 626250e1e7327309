//! Workers with their own descriptor tables.

use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::trigger::Key;
use nix::sys::signal::Signal;
use std::net::SocketAddr;

const WORKERS: u64 = 4;

#[test]
fn the_limit_of_open_files_counts_for_each_worker() {
    const LIMIT: usize = 300;
    let broker = Broker::with_descriptors(LIMIT, &format!("--workers {WORKERS}"));
    let key = Key::fresh();
    let polls = broker.polls(&key, LIMIT + 100);
    broker.wait_for_polls(&key, polls.len() as u64);
    let metrics = broker.admin("/metrics");
    let value = |name: &str| -> f64 {
        let line = metrics.text().lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().parse().expect("a number")
    };
    let open = value("process_open_fds ");
    assert!(open > polls.len() as f64 && open < polls.len() as f64 + 40.0 * WORKERS as f64, "{open}");
    assert_eq!(value("process_max_fds "), (WORKERS as f64 + 1.0) * LIMIT as f64);
    drop(polls);
    // A closed connection is open in no other table: the peer sees the FIN.
    let mut client = broker.client();
    client.send("GET /nowhere HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert_eq!(client.response().status, 404);
    client.expect_closed();
}

#[test]
fn a_closed_listener_is_open_in_no_table() {
    for tables in ["worker", "process"] {
        let mut broker = Broker::start(&format!(
            "--workers {WORKERS} --dispatch-listen 127.0.0.1:0 --shutdown-time 60s --descriptor-tables {tables}"
        ));
        let key = Key::fresh();
        let polls = broker.polls(&key, 20);
        broker.signal(Signal::SIGTERM);
        for side in [broker.runner, broker.dispatch] {
            // A listener of the group that is still open would accept its share.
            broker.wait_until("no open listener", || (0..50).all(|_| refuses(side)));
        }
        assert_eq!(broker.admin("/readyz").status, 503, "the broker still runs");
        drop(polls);
        assert_eq!(broker.ended().code(), Some(0));
    }
}

fn refuses(side: SocketAddr) -> bool {
    Client::try_connect(side).is_err()
}
