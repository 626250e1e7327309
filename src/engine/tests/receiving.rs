//! Tests of receiving: bytes, ends, back-pressure.

use super::*;

pub fn bytes_arrive_in_order<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut client, conn) = rig.connect();
    client.write_all(b"hel").unwrap();
    rig.until("the first piece", |seen| received(seen, conn) == b"hel");
    client.write_all(b"lo").unwrap();
    rig.until("both pieces", |seen| received(seen, conn) == b"hello");

    let sent = pattern(1 << 20, 7);
    let writer = thread::spawn({
        let sent = sent.clone();
        move || {
            client.write_all(&sent).unwrap();
            client
        }
    });
    rig.until("a large request", |seen| received(seen, conn).len() >= 5 + sent.len());
    assert!(rig.received(conn)[5..] == sent);
    drop(writer.join().unwrap());
}

pub fn a_fin_brings_facts_only_if_a_delivery_awaits_proof<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (client, conn) = rig.connect();
    drop(client);
    rig.until("closed", |seen| has_closed(seen, conn));
    assert_eq!(rig.closed(conn), Some(None));
    rig.engine.close(conn);

    let (mut client, conn) = rig.connect();
    rig.sent(conn, b"run", SendConfirm::Closed);
    client.read_exact(&mut [0; 3]).unwrap();
    assert_eq!(client.read(&mut [0; 3]).unwrap(), 0, "our FIN goes with the last byte");
    assert_eq!(rig.closed(conn), None, "our FIN is not the peer's");
    drop(client);
    rig.until("closed", |seen| has_closed(seen, conn));
    let facts = rig.closed(conn).unwrap().unwrap();
    assert!(facts.alive && facts.unacked_bytes == 0, "{facts:?}");
    rig.engine.probe(conn);
    rig.until("probed, FIN and all", |seen| {
        seen.iter()
            .any(|fact| matches!(fact, Seen::Probed(of, facts) if *of == conn && facts.alive && facts.fin))
    });
    rig.engine.close(conn);
    rig.settle();
}

pub fn a_close_with_unread_bytes_is_a_reset<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (client, conn) = rig.connect();
    rig.sent(conn, b"an unread run", SendConfirm::Closed);
    rig.settle();
    drop(client);
    rig.until("reset", |seen| seen.contains(&Seen::Reset(conn)));
    assert_eq!(rig.closed(conn), None);
}

pub fn a_reset_is_reported<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (client, conn) = rig.connect();
    reset(client);
    rig.until("reset", |seen| seen.contains(&Seen::Reset(conn)));

    // Also while the engine awaits an acknowledgement.
    let (client, conn) = rig.connect();
    rig.send(conn, &pattern(8 << 20, 1), SendConfirm::Acked);
    rig.settle();
    drop(client);
    rig.until("reset while sending", |seen| seen.contains(&Seen::Reset(conn)));
    rig.engine.abort(conn);
    rig.settle();
    assert_eq!(rig.count(&Seen::Acked(conn)), 0);
}

pub fn a_reset_after_a_fin_is_reported<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (client, conn) = rig.connect();
    // More than the peer's window, and less than our own buffer.
    socket2::SockRef::from(&client).set_recv_buffer_size(4096).unwrap();
    rig.send(conn, &pattern(12 << 20, 1), SendConfirm::Closed);
    rig.settle();
    client.shutdown(Shutdown::Write).unwrap();
    rig.until("closed", |seen| has_closed(seen, conn));
    let facts = rig.closed(conn).unwrap().unwrap();
    assert!(facts.alive && facts.unacked_bytes > 0, "{facts:?}");
    drop(client);
    rig.until("reset", |seen| seen.contains(&Seen::Reset(conn)));
}

pub fn a_paused_peer_feels_back_pressure<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut client, conn) = rig.connect();
    rig.engine.pause(conn);
    rig.settle();
    client.set_nonblocking(true).unwrap();
    let mut sent = Vec::new();
    loop {
        let chunk = pattern(64 * 1024, sent.len());
        match client.write(&chunk) {
            Ok(count) => sent.extend_from_slice(&chunk[..count]),
            Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(sent.len() < 64 << 20, "nothing stops the peer");
        rig.turn(Duration::ZERO);
    }
    rig.settle();
    let early = rig.received(conn).len();
    assert!(early < sent.len());
    // Pausing and resuming in quick succession loses and repeats nothing.
    for _ in 0..3 {
        rig.engine.resume(conn);
        rig.engine.pause(conn);
        rig.engine.pause(conn);
        rig.engine.resume(conn);
        rig.engine.resume(conn);
        rig.turn(Duration::from_millis(1));
    }
    rig.until("all of it", |seen| received(seen, conn).len() >= sent.len());
    assert!(rig.received(conn) == sent);
}

pub fn the_end_of_a_paused_connection_that_awaits_proof_is_reported<E: Engine>(
    make: impl Fn(Listeners) -> E,
) {
    let mut rig = Rig::new(make);
    for pause_first in [true, false] {
        let (mut client, conn) = rig.connect();
        if pause_first {
            rig.engine.pause(conn);
            rig.settle();
        }
        client.write_all(b"pipelined").unwrap();
        rig.sent(conn, b"run", SendConfirm::Closed);
        if !pause_first {
            rig.engine.pause(conn);
            rig.settle();
        }
        client.read_exact(&mut [0; 3]).unwrap();
        drop(client);
        rig.until("closed", |seen| has_closed(seen, conn));
        let facts = rig.closed(conn).unwrap().unwrap();
        assert!(facts.alive && facts.unacked_bytes == 0, "{facts:?}");
        rig.engine.close(conn);
    }
}

pub fn a_reset_of_a_paused_connection_is_reported<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut client, conn) = rig.connect();
    client.write_all(b"poll").unwrap();
    rig.until("bytes", |seen| !received(seen, conn).is_empty());
    rig.engine.pause(conn);
    rig.settle();
    client.write_all(b"more, unread").unwrap();
    rig.settle();
    reset(client);
    rig.until("reset", |seen| seen.contains(&Seen::Reset(conn)));

    // After it was paused, resumed and paused again, the engine still watches it.
    let (mut client, conn) = rig.connect();
    for _ in 0..3 {
        rig.engine.pause(conn);
        rig.turn(Duration::from_millis(5));
        rig.engine.resume(conn);
        rig.turn(Duration::from_millis(5));
    }
    client.write_all(b"poll").unwrap();
    rig.until("bytes", |seen| !received(seen, conn).is_empty());
    rig.engine.pause(conn);
    rig.settle();
    reset(client);
    rig.until("reset", |seen| seen.contains(&Seen::Reset(conn)));
}

pub fn a_reset_of_a_paused_connection_after_an_ack_is_reported<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    for len in [1, 2, 523, 1048, 2500, 300_000] {
        let (mut client, conn) = rig.connect();
        rig.engine.pause(conn);
        rig.turn(Duration::from_millis(5));
        for round in 1..=3 {
            let reader = thread::spawn(move || {
                client.read_exact(&mut vec![0; len]).unwrap();
                client
            });
            rig.send(conn, &pattern(len, round), SendConfirm::Acked);
            rig.until("acked", |seen| count(seen, &Seen::Acked(conn)) == round);
            client = reader.join().unwrap();
        }
        let is_at_rest = (0..10).any(|_| {
            let begin = Instant::now();
            rig.turn(Duration::from_millis(20));
            begin.elapsed() >= Duration::from_millis(20)
        });
        assert!(is_at_rest, "the watch ends and is armed again without a pause");
        reset(client);
        rig.until("reset", |seen| seen.contains(&Seen::Reset(conn)));
    }
}

pub fn a_reset_of_a_connection_paused_amid_its_bytes_is_reported<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut client, conn) = rig.connect();
    client.write_all(&pattern(32 * 1024, 0)).unwrap();
    // Paused at the first of them, as the broker does. The engine must still watch the connection after the receive
    // has ended, for any reason.
    while !rig.begins_with_bytes() {}
    rig.engine.pause(conn);
    rig.settle();
    reset(client);
    rig.until("reset", |seen| seen.contains(&Seen::Reset(conn)));
}
