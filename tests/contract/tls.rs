//! The contract over TLS. It is the same as without TLS. A client without TLS, or without a certificate
//! that the broker asks for, gets nothing and disturbs no other client.

use crate::support::broker::Broker;
use crate::support::client::{Client, End};
use crate::support::folder::Folder;
use crate::support::pki::{self, Authority, Pair};
use crate::support::tls::{Identity, TlsClient};
use crate::support::trigger::{self, Key};
use crate::support::{MOMENT, PATIENCE};
use crate::trust::refused;
use nix::sys::signal::Signal;
use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

fn serve(identity: &Identity, flags: &str) -> Broker {
    Broker::start(&format!("--workers 2 {} {flags}", identity.flags()))
}

/// Opens a poll over TLS and waits until it is held.
fn poll(broker: &Broker, config: &Arc<ClientConfig>, key: &Key) -> TlsClient {
    let mut client = TlsClient::new(broker.runner, config);
    client.send(key.poll());
    broker.expect_polls(1);
    client
}

/// Dispatches `message`, which `poll` must receive. Returns the connection that stays open.
#[track_caller]
fn deliver(broker: &Broker, config: &Arc<ClientConfig>, message: &str, mut poll: TlsClient) -> TlsClient {
    let mut supervisor = TlsClient::new(broker.dispatch, config);
    supervisor.send(trigger::dispatch(message));
    let run = poll.response();
    assert_eq!(run.status, 200);
    assert!(run.text() == message);
    if run.says_close() {
        poll.expect_closed();
        drop(poll);
        assert!(supervisor.response().did_warm_start());
        return supervisor;
    }
    assert!(supervisor.response().did_warm_start());
    poll
}

#[test]
fn a_run_reaches_its_runner_in_every_mode_and_version() {
    let identity = Identity::new("modes");
    for confirm in ["read", "ack", "write"] {
        let broker = serve(&identity, &format!("--confirm {confirm}"));
        for version in [&TLS12, &TLS13] {
            let config = pki::client(&identity.authority.pem, None, &[version]);
            let mut client = TlsClient::new(broker.runner, &config);
            assert_eq!(client.ask(trigger::CONNECT).json()["connectionTimeoutMs"], 30_000);
            assert_eq!(client.stream.conn.protocol_version(), Some(version.version));
            assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
            // The connection is reused for a poll.
            let key = Key::fresh();
            client.send(key.poll());
            broker.expect_polls(1);
            let mut kept = deliver(&broker, &config, &key.message(), client);
            // The connection that stays open, the runner's or the supervisor's, can be used again.
            assert!(!kept.ask(Key::fresh().dispatch()).did_warm_start());
            // A long run and a short one.
            for output in ["x".repeat(2 << 20), String::new()] {
                let held = poll(&broker, &config, &key);
                deliver(&broker, &config, &key.message_with(&output), held);
            }
        }
        broker.wait_for("warm", 6);
        assert_eq!(broker.counter("tls_failures"), 0);
    }
}

#[test]
fn requests_may_arrive_in_any_pieces() {
    let identity = Identity::new("pieces");
    let config = identity.trust();
    let broker = serve(&identity, "--confirm write");
    // Many requests in one record, many records in one segment, one byte in each record.
    let mut client = TlsClient::new(broker.runner, &config);
    let many: Vec<u8> =
        (0..100).flat_map(|_| [trigger::CONNECT, &Key::fresh().dispatch()].concat()).collect();
    client.send(&many);
    for _ in 0..100 {
        assert_eq!(client.response().status, 200);
        assert!(!client.response().did_warm_start());
    }
    let (first, second) = (Key::fresh(), Key::fresh());
    client.send_by_byte([trigger::CONNECT, first.poll().as_bytes()].concat());
    assert_eq!(client.response().status, 200);
    broker.expect_polls(1);
    // Requests after a held poll wait for it, as without TLS.
    client.send(second.poll());
    client.send(trigger::CONNECT);
    assert_eq!(client.read(MOMENT), Err(End::Silent));
    let mut supervisor = TlsClient::new(broker.dispatch, &config);
    for key in [&first, &second] {
        let message = key.message();
        supervisor.send_by_byte(trigger::dispatch(&message));
        assert_eq!(client.response().text(), message);
        assert!(supervisor.response().did_warm_start());
        if key.deployment == first.deployment {
            broker.expect_polls(1);
        }
    }
    assert_eq!(client.response().status, 200);

    // The records sent byte by byte.
    let key = Key::fresh();
    let mut session = pki::session(&config);
    let mut tcp = TcpStream::connect(broker.runner).expect("connected");
    tcp.set_nodelay(true).expect("set");
    session.writer().write_all(key.poll().as_bytes()).expect("taken");
    while session.is_handshaking() || session.wants_write() {
        let mut flight = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut flight).expect("written");
        }
        flight.iter().for_each(|byte| tcp.write_all(&[*byte]).expect("sent"));
        if session.is_handshaking() {
            session.read_tls(&mut tcp).expect("read");
            session.process_new_packets().expect("good");
        }
    }
    broker.expect_polls(1);
    let mut client = TlsClient::over(tcp, &config);
    client.stream.conn = session;
    deliver(&broker, &config, &key.message(), client);

    // More bytes after a poll than the broker buffers: the sender blocks, and no byte is lost.
    let mut client = TlsClient::new(broker.runner, &config);
    let mut poll = key.poll().into_bytes();
    let big = "x".repeat(2 << 20);
    let pipelined: Vec<u8> =
        (0..8).flat_map(|_| trigger::dispatch(&Key::fresh().message_with(&big)).to_vec()).collect();
    poll.extend_from_slice(&pipelined);
    let mut sock = client.stream.sock.try_clone().expect("cloned");
    client.stream.conn.set_buffer_limit(None);
    while client.stream.conn.is_handshaking() {
        client.stream.conn.complete_io(&mut sock).expect("a handshake");
    }
    client.stream.conn.writer().write_all(&poll).expect("buffered");
    let mut flight = Vec::new();
    while client.stream.conn.wants_write() {
        client.stream.conn.write_tls(&mut flight).expect("written");
    }
    let writer = thread::spawn(move || sock.write_all(&flight));
    broker.expect_polls(1);
    thread::sleep(MOMENT);
    assert!(!writer.is_finished(), "the sender must block");
    let mut client = deliver(&broker, &config, &key.message(), client);
    for _ in 0..8 {
        assert!(!client.response().did_warm_start());
    }
    writer.join().expect("ended").expect("sent");
}

#[test]
fn a_client_without_tls_gets_an_alert() {
    let identity = Identity::new("garbage");
    let config = identity.trust();
    let broker = serve(&identity, "");
    let key = Key::fresh();
    let held = poll(&broker, &config, &key);
    let (plain, polling) = (key.dispatch(), key.poll());
    let garbage: [&[u8]; 5] =
        [&plain, polling.as_bytes(), &[0xff; 4_000], &[22, 3, 1, 0, 4, 9, 0, 0, 0], b"\x80\x2e\x01\x03\x01"];
    for bytes in garbage {
        let mut client = Client::connect(broker.runner);
        client.send(bytes);
        let mut said = Vec::new();
        client.stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let _ = client.stream.read_to_end(&mut said);
        assert!(said.is_empty() || said[0] == 21, "{said:?}");
    }
    // A client that trusts another authority ends the handshake.
    let stranger = pki::client(&Authority::new("another").pem, None, &[&TLS13]);
    assert!(TlsClient::new(broker.runner, &stranger).try_send(key.dispatch()).is_err());
    broker.wait_for("tls_failures", garbage.len() as u64 + 1);
    assert_eq!(broker.counter("cold"), 0);
    deliver(&broker, &config, &key.message(), held);
}

/// To the broker an unfinished handshake is a connection without a byte.
#[test]
fn an_unfinished_handshake_is_closed() {
    let identity = Identity::new("slow");
    let config = identity.trust();
    let broker = serve(&identity, "--preconnect-timeout 700ms --request-timeout 1s");
    let mut hello = Vec::new();
    pki::session(&config).write_tls(&mut hello).expect("written");
    let begin = Instant::now();
    let ends: Vec<_> = [0, 1, hello.len() / 2, hello.len()]
        .into_iter()
        .map(|count| {
            let mut client = Client::connect(broker.runner);
            client.send(&hello[..count]);
            let rest = hello[count..].to_vec();
            thread::spawn(move || {
                // Sending a byte from time to time does not extend the timeout.
                for byte in rest.iter().take(200) {
                    if client.try_send([*byte]).is_err() {
                        break;
                    }
                    thread::sleep(Duration::from_millis(25));
                }
                let mut said = Vec::new();
                client.stream.set_read_timeout(Some(PATIENCE)).expect("set");
                let _ = client.stream.read_to_end(&mut said);
                Instant::now()
            })
        })
        .collect();
    broker.wait_until("closed", || broker.counter("closed") >= 4);
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(650), "{took:?}");
    ends.into_iter().for_each(|end| drop(end.join()));
    // After the handshake an incomplete request times out.
    let mut client = TlsClient::new(broker.runner, &config);
    client.send("GET /warm-st");
    client.expect_closed();
    broker.wait_for("requests_timed_out", 1);
}

#[test]
fn a_dispatch_needs_a_client_certificate() {
    let (identity, clients) = (Identity::new("server-ca"), Authority::new("clients"));
    let folder = Folder::new("client-ca");
    fs::write(folder.path("ca.crt"), &clients.pem).expect("written");
    let (cert, key) = (identity.folder.path("server.crt"), identity.folder.path("server.key"));
    // The runner side has no TLS here.
    let broker = Broker::start(&format!(
        "--workers 2 --dispatch-listen 127.0.0.1:0 --dispatch-tls-cert {cert} --dispatch-tls-key {key} --dispatch-client-ca {}",
        folder.path("ca.crt")
    ));
    let wanted = Key::fresh();
    let mut held = broker.poll(&wanted);
    let message = wanted.message();
    let wrong = Authority::new("clients");
    let impostors: [(&str, Option<Pair>); 5] = [
        ("none", None),
        ("of an authority of the same name", Some(wrong.client())),
        ("expired", Some(clients.expired_client())),
        ("a server's authority's", Some(identity.authority.client())),
        ("a server's", Some(wrong.server())),
    ];
    for (what, pair) in &impostors {
        for version in [&TLS12, &TLS13] {
            let config = pki::client(&identity.authority.pem, pair.as_ref(), &[version]);
            let mut client = TlsClient::new(broker.dispatch, &config);
            // With TLS 1.3 the client finishes its handshake before the server checks the certificate.
            let answer = client.try_send(trigger::dispatch(&message)).map(|()| client.read(PATIENCE));
            assert!(matches!(answer, Err(_) | Ok(Err(End::Reset | End::Torn))), "{what}: {answer:?}");
        }
    }
    broker.wait_for("tls_failures", 2 * impostors.len() as u64);
    assert_eq!(broker.counter("cold"), 0);

    let config = identity.trust_with(Some(&clients.client()));
    let mut supervisor = TlsClient::new(broker.dispatch, &config);
    supervisor.send(trigger::dispatch(&message));
    assert_eq!(held.response().text(), message);
    drop(held);
    assert!(supervisor.response().did_warm_start());
}

#[test]
fn certificates_are_read_again_on_sighup() {
    let identity = Identity::new("rotation");
    let broker = serve(&identity, "");
    let old = identity.trust();
    let key = Key::fresh();
    let held = poll(&broker, &old, &key);
    let next = Authority::new("next");
    let new = pki::client(&next.pem, None, &[&TLS13]);

    // A key that does not match the certificate changes nothing.
    next.server().write(identity.folder.as_ref(), "other");
    fs::copy(identity.folder.path("other.key"), identity.folder.path("server.key")).expect("copied");
    broker.signal(Signal::SIGHUP);
    broker.wait_until("a line in the log", || broker.log().contains("certificate and key stay as they were"));
    assert!(broker.log().contains("server.key: it is not the key of the certificate in"), "{}", broker.log());
    assert_eq!(TlsClient::new(broker.runner, &old).ask(trigger::CONNECT).status, 200);

    fs::copy(identity.folder.path("other.crt"), identity.folder.path("server.crt")).expect("copied");
    broker.signal(Signal::SIGHUP);
    broker.wait_until("a line in the log", || broker.log().contains("certificate and key read again"));
    // Enough connections to reach every worker.
    for _ in 0..8 {
        assert_eq!(TlsClient::new(broker.runner, &new).ask(trigger::CONNECT).status, 200);
        assert!(TlsClient::new(broker.runner, &old).try_send(trigger::CONNECT).is_err());
    }
    // Existing connections stay open.
    deliver(&broker, &new, &key.message(), held);
}

#[test]
fn invalid_tls_flags_are_refused() {
    let identity = Identity::new("starts");
    let folder = &identity.folder;
    let (cert, key) = (folder.path("server.crt"), folder.path("server.key"));
    Authority::new("another").server().write(folder.as_ref(), "other");
    fs::write(folder.path("empty"), "").expect("written");
    fs::write(folder.path("torn"), "-----BEGIN PRIVATE KEY-----\nMIGH").expect("written");
    fs::write(folder.path("big"), vec![b'x'; 2 << 20]).expect("written");
    let other = folder.path("other.key");
    let path = |name| folder.path(name);
    for (flags, says) in [
        (format!("--tls-cert {cert}"), "needs --tls-key, which is missing"),
        (format!("--tls-key {key}"), "needs --tls-cert, which is missing"),
        (format!("--tls-cert {cert} --tls-key {other}"), "it is not the key of the certificate in"),
        (format!("--tls-cert {} --tls-key {key}", path("nowhere")), "cannot be read: No such file"),
        (format!("--tls-cert {} --tls-key {key}", path("empty")), "contains no certificate"),
        (format!("--tls-cert {} --tls-key {key}", path("big")), "longer than"),
        (format!("--tls-cert {cert} --tls-key {cert}"), "contains no key"),
        (format!("--tls-cert {cert} --tls-key {}", path("torn")), "it is not PEM"),
        (format!("--dispatch-tls-cert {cert} --dispatch-tls-key {key}"), "there is no --dispatch-listen"),
        (
            format!(
                "--dispatch-listen unix:{} --dispatch-tls-cert {cert} --dispatch-tls-key {key}",
                path("d.sock")
            ),
            "is a Unix domain socket, which has no TLS",
        ),
        (format!("--dispatch-listen 127.0.0.1:0 --dispatch-client-ca {cert}"), "with --dispatch-tls-cert"),
        (format!("--tls-cert {cert} --tls-key {key} --dispatch-client-ca {cert}"), "--dispatch-listen"),
        (
            format!(
                "--dispatch-listen 127.0.0.1:0 --dispatch-tls-cert {cert} --dispatch-tls-key {key} --dispatch-client-ca {key}"
            ),
            "contains no certificate",
        ),
        // TLS identifies the broker, not the clients that may dispatch.
        (format!("--listen 0.0.0.0:0 --tls-cert {cert} --tls-key {key}"), "--dispatch-allow"),
    ] {
        let said = refused(&flags);
        assert!(said.contains(says) && said.lines().count() == 1, "{flags}: {said}");
        assert!(!said.contains("MIGH"), "{said}");
    }
}

/// A private key is a secret.
#[test]
fn a_broker_with_a_private_key_dumps_no_core() {
    let identity = Identity::new("dumps");
    let broker = serve(&identity, "");
    let limits = fs::read_to_string(format!("/proc/{}/limits", broker.pid())).expect("readable");
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a line");
    assert_eq!(line.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{line}");
}
