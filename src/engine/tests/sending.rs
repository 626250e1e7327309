//! Tests of sending, and of what the peer's kernel acknowledges.

use super::*;
use crate::sys::tcp;
use std::os::fd::AsFd;

pub fn a_slow_reader_gets_a_large_response<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    for confirm in [SendConfirm::None, SendConfirm::Closed, SendConfirm::Acked] {
        let (mut client, conn) = rig.connect();
        let body = pattern(12 << 20, 3);
        rig.send(conn, &body, confirm);
        rig.settle();
        assert_eq!(rig.count(&Seen::Sent(conn)), 0, "the kernel cannot have taken it all");
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            let mut chunk = vec![0; 256 * 1024];
            while let Ok(count @ 1..) = client.read(&mut chunk) {
                all.extend_from_slice(&chunk[..count]);
                thread::sleep(Duration::from_millis(1));
            }
            all
        });
        rig.until("sent", |seen| seen.contains(&Seen::Sent(conn)));
        if confirm == SendConfirm::Acked {
            rig.until("acked", |seen| seen.contains(&Seen::Acked(conn)));
        }
        rig.engine.close(conn);
        rig.settle();
        assert_eq!(rig.count(&Seen::Sent(conn)), 1);
        assert!(reader.join().unwrap() == body, "{confirm:?}");
    }
}

pub fn an_abort_resets_and_a_close_delivers<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut client, conn) = rig.connect();
    rig.engine.abort(conn);
    rig.settle();
    assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);

    let (mut client, conn) = rig.connect();
    rig.sent(conn, b"the last answer", SendConfirm::None);
    rig.engine.close(conn);
    rig.settle();
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"the last answer");
}

pub fn an_abort_drops_what_is_not_sent<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    for confirm in [SendConfirm::None, SendConfirm::Closed, SendConfirm::Acked] {
        let (mut client, conn) = rig.connect();
        let body = pattern(12 << 20, 9);
        rig.send(conn, &body, confirm);
        rig.settle();
        rig.engine.abort(conn);
        // The engine may need several turns.
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            (client.read_to_end(&mut all).unwrap_err().kind(), all)
        });
        while !reader.is_finished() {
            rig.turn(Duration::from_millis(5));
        }
        let (end, all) = reader.join().unwrap();
        assert_eq!(end, ErrorKind::ConnectionReset);
        assert!(all.len() < body.len());
        assert!(!rig.seen.contains(&Seen::Sent(conn)) && !rig.seen.contains(&Seen::Acked(conn)));
    }
}

pub fn a_probe_counts_unsent_bytes<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut client, conn) = rig.connect();
    let probed = |rig: &mut Rig<E>| {
        let before = rig.seen.len();
        rig.engine.probe(conn);
        rig.until("probed", |seen| seen[before..].iter().any(|fact| matches!(fact, Seen::Probed(..))));
        let found = rig.seen[before..].iter().find_map(|fact| match fact {
            Seen::Probed(of, facts) if *of == conn => Some(*facts),
            _ => None,
        });
        found.unwrap()
    };
    let facts = probed(&mut rig);
    assert!(facts.alive && facts.unacked_bytes == 0, "{facts:?}");

    let body = pattern(12 << 20, 4);
    rig.send(conn, &body, SendConfirm::Closed);
    rig.settle();
    let facts = probed(&mut rig);
    assert!(facts.alive && facts.unacked_bytes <= body.len() as u64, "{facts:?}");
    const READ_BYTES: usize = 1 << 20;
    // The client stays open. The two kernels may hold any part of the body: the engine runs on meanwhile.
    let reader = thread::spawn(move || client.read_exact(&mut vec![0; READ_BYTES]).map(|()| client));
    while !reader.is_finished() {
        rig.turn(Duration::from_millis(5));
    }
    let _client = reader.join().unwrap().unwrap();
    rig.settle();
    let later = probed(&mut rig);
    assert!(later.unacked_bytes > 0 && later.unacked_bytes < facts.unacked_bytes, "{facts:?} {later:?}");
    // The peer's kernel has acknowledged at least what the client has read.
    assert!(later.unacked_bytes <= (body.len() - READ_BYTES) as u64);
}

pub fn an_ack_is_reported_once_and_after_sent<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    for len in [1, 2, 100, 523, 524, 525, 1048, 1049, 1600, 2500, 300_000, 3 << 20] {
        let (mut client, conn) = rig.connect();
        for round in 0..3 {
            let body = pattern(len, round);
            // Responses without confirmation count too.
            rig.sent(conn, b"connect", SendConfirm::None);
            rig.send(conn, &body, SendConfirm::Acked);
            let reader = thread::spawn(move || {
                let mut read = vec![0; len + 7];
                client.read_exact(&mut read).unwrap();
                (client, read)
            });
            rig.until("acked", |seen| count(seen, &Seen::Acked(conn)) == round + 1);
            let read;
            (client, read) = reader.join().unwrap();
            assert!(read[7..] == body, "{len}");
            let sent = rig.seen.iter().rposition(|fact| *fact == Seen::Sent(conn));
            let acked = rig.seen.iter().rposition(|fact| *fact == Seen::Acked(conn));
            assert!(sent < acked, "{len}: {:?}", rig.last_seen());
            assert_eq!(rig.count(&Seen::Sent(conn)), 2 * (round + 1));
        }
    }
}

/// This takes no further turn: a peer on this host acknowledges before the send returns.
pub fn an_ack_is_reported_with_sent<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut client, conn) = rig.connect();
    for round in 1..=20 {
        rig.send(conn, &pattern(1_700, round), SendConfirm::Acked);
        rig.take_facts();
        assert_eq!(rig.count(&Seen::Acked(conn)), round, "{:?}", rig.last_seen());
        // And not a second time, even if the kernel announced it too.
        rig.settle();
        assert_eq!(rig.count(&Seen::Acked(conn)), round, "{:?}", rig.last_seen());
        client.read_exact(&mut [0; 1_700]).unwrap();
    }
}

/// The engine reports a late acknowledgement too: here the window is full until the peer reads.
pub fn an_ack_expected_immediately_may_come_late<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut client, conn) = rig.connect();
    for round in 1..=6 {
        let late = round % 2 == 0;
        let len = if late { 12 << 20 } else { 1_700 };
        rig.send(conn, &pattern(len, round), SendConfirm::Acked);
        rig.settle();
        assert_eq!(rig.count(&Seen::Acked(conn)), round - usize::from(late), "{:?}", rig.last_seen());
        let reader = thread::spawn(move || client.read_exact(&mut vec![0; len]).map(|()| client));
        rig.until("acked", |seen| count(seen, &Seen::Acked(conn)) == round);
        client = reader.join().unwrap().unwrap();
    }
}

/// Here the peer's window has no room for what our kernel has taken.
pub fn sent_bytes_are_not_acknowledged_bytes<E: Engine>(make: impl Fn(Listeners) -> E) {
    const LEN: usize = 20_000;
    let mut rig = Rig::new(make);
    let (mut client, conn) = rig.connect_with_room(4_096);
    rig.sent(conn, &pattern(LEN, 1), SendConfirm::Acked);
    rig.settle();
    assert_eq!(rig.count(&Seen::Acked(conn)), 0, "{:?}", rig.last_seen());
    client.read_exact(&mut [0; LEN]).unwrap();
    rig.until("acked", |seen| count(seen, &Seen::Acked(conn)) == 1);
}

/// Both may come between two checks, the second of which is due only after the reset was reported.
pub fn an_ack_is_reported_before_the_reset_that_follows<E: Engine>(make: impl Fn(Listeners) -> E) {
    const LEN: usize = 20_000;
    let mut rig = Rig::new(make);
    for round in 0..10 {
        let (mut client, conn) = rig.connect_with_room(4_096);
        if round % 2 == 0 {
            rig.engine.pause(conn);
        }
        rig.sent(conn, &pattern(LEN, 1), SendConfirm::Acked);
        rig.settle();
        assert_eq!(rig.count(&Seen::Acked(conn)), 0, "{:?}", rig.last_seen());
        let reader = thread::spawn(move || {
            socket2::SockRef::from(&client).set_tcp_quickack(true).unwrap();
            client.read_exact(&mut [0; LEN]).unwrap();
            reset(client);
        });
        rig.until("reset", |seen| seen.contains(&Seen::Reset(conn)));
        reader.join().unwrap();
        let of_conn = |fact: &&Seen| matches!(fact, Seen::Acked(of) | Seen::Reset(of) if *of == conn);
        let reported: Vec<&Seen> = rig.seen.iter().filter(of_conn).collect();
        assert_eq!(reported, [&Seen::Acked(conn), &Seen::Reset(conn)], "round {round}");
        rig.engine.close(conn);
    }
}

pub fn acks_do_not_wait_for_the_peer_s_delay<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    const ROUNDS: usize = 40;
    let len = |round: usize| 200 + 131 * round;
    let (mut client, conn) = rig.connect();
    // A kept-alive connection, and a reader that answers each response with one small request.
    let reader = thread::spawn(move || {
        for round in 0..ROUNDS {
            client.read_exact(&mut vec![0; len(round)]).unwrap();
            thread::sleep(Duration::from_millis(1));
            client.write_all(b"poll").unwrap();
        }
        client
    });
    let mut slow = 0;
    for round in 0..ROUNDS {
        let begin = Instant::now();
        rig.send(conn, &pattern(len(round), round), SendConfirm::Acked);
        rig.until("acked", |seen| count(seen, &Seen::Acked(conn)) == round + 1);
        slow += usize::from(begin.elapsed() > Duration::from_millis(35));
        rig.until("the next poll", |seen| received(seen, conn).len() == 4 * (round + 1));
    }
    reader.join().unwrap();
    assert!(slow < 10, "{slow} of {ROUNDS} acknowledgements came late");
}

pub fn an_ack_after_a_fin_is_reported<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut client, conn) = rig.connect();
    let body = pattern(12 << 20, 5);
    rig.send(conn, &body, SendConfirm::Acked);
    rig.settle();
    client.shutdown(Shutdown::Write).unwrap();
    rig.until("closed", |seen| has_closed(seen, conn));
    assert!(rig.closed(conn).unwrap().unwrap().unacked_bytes > 0);
    let reader = thread::spawn(move || {
        let mut read = vec![0; 12 << 20];
        client.read_exact(&mut read).unwrap();
        (client, read)
    });
    // By the timestamp or by a probe: the broker uses both.
    rig.until("sent", |seen| seen.contains(&Seen::Sent(conn)));
    let (_client, read) = reader.join().unwrap();
    assert!(read == body);
    let end = Instant::now() + PATIENCE;
    while !rig.seen.contains(&Seen::Acked(conn)) {
        rig.engine.probe(conn);
        rig.settle();
        let all_acked =
            |fact: &Seen| matches!(fact, Seen::Probed(_, facts) if facts.alive && facts.unacked_bytes == 0);
        if rig.seen.iter().any(all_acked) {
            break;
        }
        assert!(Instant::now() < end);
    }
}

pub fn a_half_closed_connection_still_reads<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut client, conn) = rig.connect();
    rig.sent(conn, b"refused", SendConfirm::None);
    rig.engine.half_close(conn);
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"refused");
    client.write_all(b"the rest of a request").unwrap();
    rig.until("the rest", |seen| received(seen, conn) == b"the rest of a request");
    drop(client);
    rig.until("closed", |seen| has_closed(seen, conn));
}

pub fn a_probe_does_not_miss_a_reset<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    for _ in 0..20 {
        let (client, conn) = rig.connect();
        let others: Vec<(TcpStream, ConnId)> = (0..8).map(|_| rig.connect()).collect();
        rig.sent(conn, b"an unread run", SendConfirm::Closed);
        rig.turn(Duration::from_millis(2));
        let before = rig.seen.len();
        drop(client);
        // In one turn: more requests than a small engine's queue holds, and the probe after them.
        others.iter().for_each(|(_, other)| rig.engine.pause(*other));
        rig.engine.probe(conn);
        let of_conn = |fact: &&Seen| match fact {
            Seen::Probed(of, _) | Seen::PeerClosed(of, _) | Seen::Reset(of) => *of == conn,
            _ => false,
        };
        rig.until("its end is reported", |seen| seen[before..].iter().any(|fact| of_conn(&fact)));
        let first = rig.seen[before..].iter().find(of_conn).unwrap();
        let dead = match first {
            Seen::Probed(_, facts) => !facts.alive,
            first => *first == Seen::Reset(conn),
        };
        assert!(dead, "{first:?} of a connection that was reset with the run unread");
        rig.engine.abort(conn);
        others.iter().for_each(|(_, other)| rig.engine.close(*other));
        rig.turn(Duration::from_millis(1));
    }
}

pub fn a_reset_goes_out_before_the_next_send<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    for confirm in [SendConfirm::Closed, SendConfirm::Acked] {
        let (frozen, conn) = rig.connect();
        let (mut next, other) = rig.connect();
        rig.sent(conn, b"run", confirm);
        rig.turn(Duration::from_millis(2));
        // The broker releases the poll and offers the run to the next one.
        rig.engine.abort(conn);
        rig.send(other, b"run", confirm);
        if confirm == SendConfirm::Acked {
            rig.until("sent", |seen| seen.contains(&Seen::Sent(other)));
        }
        next.read_exact(&mut [0; 3]).unwrap_or_else(|error| panic!("{confirm:?}: {error}"));
        assert!(
            !tcp::tcp_state(frozen.as_fd()).unwrap().alive,
            "{confirm:?}: two runners have the run, and neither was reset"
        );
        rig.engine.close(other);
        rig.turn(Duration::from_millis(1));
    }
}
