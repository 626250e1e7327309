//! Bytes to requests: fragments, pipelining, refusals, slow senders.

use super::*;

#[test]
fn requests_arrive_in_any_fragments() {
    let whole = dispatch("1");
    for cut in 1..whole.len() {
        let mut bench = Bench::new(Settings { confirm: Confirm::Write, ..settings() });
        bench.accept(0);
        assert_eq!(bench.receive(0, &POLL[..cut.min(POLL.len() - 1)]), []);
        assert_eq!(bench.receive(0, &POLL[cut.min(POLL.len() - 1)..]), []);
        bench.accept(1);
        assert_eq!(bench.receive(1, &whole[..cut]), []);
        assert_eq!(bench.receive(1, &whole[cut..]), [Done::Sent(0, run_response(false))], "cut at {cut}");
    }
    let mut bench = Bench::new(settings());
    bench.accept(0);
    for byte in &whole[..whole.len() - 1] {
        assert_eq!(bench.receive(0, &[*byte]), []);
    }
    assert_eq!(bench.receive(0, &whole[whole.len() - 1..]), [answer(0, false)]);
}

#[test]
fn pipelined_requests_are_answered_in_order_one_at_a_time() {
    let mut bench = Bench::new(settings());
    bench.accept(0);
    let two = [dispatch("1"), dispatch("2"), b"GET /connect HTTP/1.1\r\nHost: b\r\n\r\n".to_vec()].concat();
    assert_eq!(bench.receive(0, &two), [answer(0, false)]);
    assert_eq!(bench.sent(0), [answer(0, false)]);
    let done = bench.sent(0);
    assert!(matches!(&done[..], [Done::Sent(0, text)] if text.contains("connectionTimeoutMs")), "{done:?}");
}

#[test]
fn bytes_pipelined_behind_a_poll_are_buffered_up_to_a_limit() {
    let mut bench = Bench::new(Settings { pipeline_bytes_max: 100, confirm: Confirm::Write, ..settings() });
    bench.poll(0);
    assert_eq!(bench.receive(0, POLL), [Done::Paused(0)]);
    bench.dispatch(1);
    let done = bench.sent(0);
    assert_eq!(done, [answer(1, true), Done::Resumed(0)]);
    assert_eq!(bench.broker.waiting(), 1);
}

#[test]
fn a_pipelined_head_longer_than_the_limit_is_read_to_its_end() {
    let mut bench = Bench::new(Settings { pipeline_bytes_max: 16, ..settings() });
    bench.accept(0);
    let connect = b"GET /connect HTTP/1.1\r\nHost: b\r\n\r\n";
    let (begin, rest) = POLL.split_at(100);
    let done = bench.receive(0, &[connect, begin].concat());
    assert!(matches!(&done[..], [Done::Sent(0, _), Done::Paused(0)]), "{done:?}");
    assert_eq!(bench.sent(0), [Done::Resumed(0)]);
    assert_eq!(bench.receive(0, rest), []);
    assert_eq!(bench.broker.waiting(), 1);
}

#[test]
fn a_pipelined_poll_of_a_closed_client_is_not_held() {
    let mut bench = Bench::new(settings());
    bench.accept(0);
    bench.receive(0, &[&dispatch("1"), POLL].concat());
    assert_eq!(bench.fin(0, None), []);
    assert_eq!(bench.sent(0), [Done::Closed(0)]);
    assert_eq!(bench.broker.waiting(), 0);
}

#[test]
fn a_refused_connection_lingers_and_ignores_further_requests() {
    let mut bench = Bench::new(settings());
    bench.accept(0);
    let done = bench.receive(0, &[b"GET / HTTP/1.1\r\n\r\n".to_vec(), dispatch("1")].concat());
    assert!(matches!(&done[..], [Done::Sent(0, text)] if text.starts_with("HTTP/1.1 400")), "{done:?}");
    assert_eq!(bench.sent(0), [Done::HalfClosed(0)]);
    assert_eq!(bench.receive(0, &dispatch("1")), []);
    assert_eq!(bench.pass_ms(1_000), [Done::Closed(0)]);
    assert_eq!(bench.broker.counters().answered_false(), 0);
}

#[test]
fn silent_slow_and_idle_connections_have_separate_timeouts() {
    let mut bench = Bench::new(settings());
    bench.accept(0);
    bench.accept(1);
    bench.receive(1, b"GET /warm-start HT");
    bench.accept(2);
    bench.receive(2, &dispatch("1"));
    bench.sent(2);
    assert_eq!(bench.pass_ms(29_999), []);
    bench.receive(1, b"TP");
    assert_eq!(bench.pass_ms(1), [Done::Closed(1)], "counted from the first byte");
    assert_eq!(bench.pass_ms(30_000), [Done::Closed(2)]);
    assert_eq!(bench.pass_ms(20_000), [Done::Closed(0)]);
    assert_eq!(bench.broker.connections(), 0);
}

#[test]
fn at_the_limit_the_oldest_silent_connection_makes_room() {
    let mut bench = Bench::new(Settings { connections: ConnectionLimit::of(3, 1), ..settings() });
    bench.accept(0);
    bench.poll(1);
    bench.accept(2);
    bench.generations.push(1);
    let conn = bench.id(3);
    assert_eq!(bench.input(Input::Accepted { conn, side: Side::Runner }), [Done::Closed(0)]);
    assert_eq!(bench.receive(3, POLL), []);
    bench.receive(2, POLL);
    bench.generations.push(1);
    let conn = bench.id(4);
    let done = bench.input(Input::Accepted { conn, side: Side::Runner });
    assert_eq!(done, [Done::Closed(4)], "without a silent connection the new one is closed");
    assert_eq!(bench.broker.waiting(), 3);
}

#[test]
fn a_connection_with_unread_bytes_makes_no_room() {
    let mut bench = Bench::new(Settings { connections: ConnectionLimit::of(3, 1), ..settings() });
    for slot in 0..3 {
        bench.accept(slot);
    }
    assert_eq!(bench.broker.next_to_make_room(), Some(bench.id(0)));
    let conn = bench.id(0);
    assert_eq!(bench.input(Input::Unread { conn }), []);
    assert_eq!(bench.broker.next_to_make_room(), Some(bench.id(1)));
    bench.generations.push(1);
    let conn = bench.id(3);
    assert_eq!(bench.input(Input::Accepted { conn, side: Side::Runner }), [Done::Closed(1)]);
    assert_eq!(bench.receive(0, POLL), []);
    assert_eq!(bench.broker.waiting(), 1);
}

#[test]
fn each_worker_has_its_own_connections() {
    let mut bench = Bench::new(Settings { connections: ConnectionLimit { own: 1, common: 2 }, ..settings() });
    // Another worker uses the whole common part.
    while bench.shared.open_connection(2) {}
    assert_eq!(bench.broker.next_to_make_room(), None);
    bench.poll(0);
    bench.generations.push(1);
    let conn = bench.id(1);
    assert_eq!(bench.input(Input::Accepted { conn, side: Side::Runner }), [Done::Closed(1)]);
    bench.shared.close_connection();
    bench.poll(1);
    assert_eq!(bench.shared.open_connections(), 2);
    // The common part gets its place back first.
    bench.input(Input::Reset { conn: bench.id(0) });
    assert_eq!(bench.shared.open_connections(), 1);
    bench.input(Input::Reset { conn: bench.id(1) });
    assert_eq!(bench.shared.open_connections(), 1);
}

#[test]
fn empty_lines_before_a_request_count_together_in_any_fragments() {
    for (lines, served) in [(0, true), (1, true), (4, true), (5, false)] {
        let request = ["\r\n".repeat(lines).as_bytes(), b"GET /connect HTTP/1.1\r\nHost: b\r\n\r\n"].concat();
        for cut in 0..request.len() {
            let mut bench = Bench::new(settings());
            bench.accept(0);
            let mut done = bench.receive(0, &request[..cut]);
            done.extend(bench.receive(0, &request[cut..]));
            let is_served = matches!(&done[..], [Done::Sent(0, text)] if text.starts_with("HTTP/1.1 200"));
            assert_eq!(is_served, served, "{lines} empty lines, cut at {cut}: {done:?}");
        }
    }
}

#[test]
fn a_refused_request_is_answered_once_and_the_rest_ignored() {
    for (request, status) in [
        ("GET /warm-start HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\nGET", 400),
        ("GET /connect HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST /warm-start HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        ("POST /warm-start HTTP/1.1\r\nHost: b\r\n\r\n", 411),
        ("POST /warm-start HTTP/1.1\r\nHost: b\r\nContent-Length: 1048577\r\n\r\n", 413),
        ("POST /warm-start HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\nExpect: x\r\n\r\n", 417),
        ("BREW /connect HTTP/1.1\r\nHost: b\r\n\r\n", 501),
        ("GET /connect HTTP/3.0\r\nHost: b\r\n\r\n", 505),
    ] {
        let mut bench = Bench::new(settings());
        bench.accept(0);
        let done = bench.receive(0, request.as_bytes());
        let line = format!("HTTP/1.1 {status} ");
        assert!(matches!(&done[..], [Done::Sent(0, text)] if text.starts_with(&line)), "{request}: {done:?}");
        assert_eq!(bench.receive(0, POLL), []);
        assert_eq!(bench.sent(0), [Done::HalfClosed(0)]);
        assert_eq!(bench.fin(0, None), [Done::Closed(0)]);
        assert_eq!((bench.broker.waiting(), bench.broker.counters().rejected), (0, 1));
    }
}

#[test]
fn options_is_answered_and_the_connection_stays_open() {
    let mut bench = Bench::new(settings());
    bench.accept(0);
    let done = bench.receive(0, b"OPTIONS /connect HTTP/1.1\r\nHost: b\r\n\r\n");
    assert!(
        matches!(&done[..], [Done::Sent(0, text)] if text.contains("Allow: GET, HEAD, OPTIONS")),
        "{done:?}"
    );
    bench.sent(0);
    assert_eq!(bench.receive(0, &dispatch("1")), [answer(0, false)]);
}

#[test]
fn an_unread_response_is_aborted_at_the_write_timeout() {
    let mut bench = Bench::new(settings());
    bench.accept(0);
    assert_eq!(bench.receive(0, &dispatch("1")), [answer(0, false)]);
    assert_eq!(bench.pass_ms(9_999), []);
    assert_eq!(bench.pass_ms(1), [Done::Aborted(0)]);
    assert_eq!(bench.broker.connections(), 0);
}
