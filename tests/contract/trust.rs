//! Who may dispatch, who may cordon, and which privileges the process gives up.

use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::folder::Folder;
use crate::support::trigger::{self, Key};
use crate::support::{process, wait_until};
use std::fs;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

fn pilotlight(args: &[&str]) -> Output {
    // Ends a broker that serves although it should refuse the flags.
    let mut command = Command::new("timeout");
    command.args(["20", env!("CARGO_BIN_EXE_pilotlight")]);
    process::clear_settings(&mut command);
    command.args(args).output().expect("ran")
}

/// The message with which the broker refuses to start with these flags.
pub fn refused(flags: &str) -> String {
    let args: Vec<&str> = ["serve"].into_iter().chain(flags.split_whitespace()).collect();
    let output = pilotlight(&args);
    assert_eq!(output.status.code(), Some(2), "{flags}: {output:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

/// One exchange over a Unix domain socket. The request must close the connection.
fn ask(path: &str, request: impl AsRef<[u8]>) -> String {
    let mut stream = UnixStream::connect(path).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    stream.write_all(request.as_ref()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn dispatches_from_a_whole_network_need_a_flag() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8040", "[::ffff:192.0.2.1]:8040"] {
        let line = refused(&format!("--listen {listen} --admin-listen 127.0.0.1:0"));
        for way in ["--listen ", "--dispatch-listen", "--dispatch-allow", "--insecure-shared-dispatch"] {
            assert!(line.contains(way), "{line}");
        }
        assert_eq!(line.lines().count(), 1, "{line}");
    }
    for way in ["--dispatch-listen 127.0.0.1:0", "--dispatch-allow 10.0.0.0/8", "--insecure-shared-dispatch"]
    {
        drop(Broker::start(&format!("--workers 1 --listen 0.0.0.0:0 {way}")));
    }
    for (flags, says) in [
        ("--dispatch-allow 10.0.0.0/33", "--dispatch-allow (PILOTLIGHT_DISPATCH_ALLOW): \"10.0.0.0/33\""),
        ("--dispatch-allow supervisor", "10.0.3.0/24"),
        ("--listen unix:/tmp/x", "delivery cannot be confirmed"),
        ("--dispatch-listen unix:x.sock", "the absolute path"),
        (
            "--dispatch-listen unix:/tmp/a --admin-listen unix:/tmp/a",
            "is also the address of --dispatch-listen",
        ),
        ("--max-buffered 1MiB", "--max-body"),
        (
            "--admin-token-file /nowhere",
            "--admin-token-file (PILOTLIGHT_ADMIN_TOKEN_FILE): \"/nowhere\" cannot be read",
        ),
        ("--user root", "that is root"),
    ] {
        let line = refused(flags);
        assert!(line.contains(says), "{flags}: {line}");
    }
}

#[test]
fn only_listed_addresses_may_dispatch() {
    let broker = Broker::start("--workers 2 --dispatch-allow 127.0.0.1,127.0.7.0/24");
    let key = Key::fresh();
    for (source, may) in [([127, 0, 0, 1], true), ([127, 0, 7, 9], true), ([127, 0, 8, 1], false)] {
        let mut poll = broker.poll(&key);
        let mut client = Client::connect_from(Ipv4Addr::from(source), broker.dispatch).expect("connected");
        client.send(key.dispatch());
        if may {
            assert_eq!(poll.response().status, 200);
            drop(poll);
            assert!(client.response().did_warm_start());
        } else {
            let refusal = client.response();
            assert_eq!((refusal.status, refusal.says_close()), (403, true));
            // It may be a runner.
            let mut own = Client::connect_from(Ipv4Addr::from(source), broker.runner).expect("connected");
            assert_eq!(own.ask(trigger::CONNECT).status, 200);
        }
    }
    broker.wait_for("dispatches_forbidden", 1);
}

#[test]
fn a_unix_domain_socket_takes_dispatches() {
    let folder = Folder::new("dispatch");
    let path = folder.path("d.sock");
    // The list is about addresses. A process that may open the file may dispatch.
    let flags =
        format!("--workers 2 --dispatch-listen unix:{path} --dispatch-allow 10.0.0.1 --unix-mode 600");
    let broker = Broker::start(&flags);
    assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o777, 0o600);
    assert!(broker.log().contains(&format!("listening side=dispatch addr=unix:{path}")));
    let key = Key::fresh();
    assert_eq!(broker.client().ask(key.dispatch()).status, 404);
    for round in 0..8 {
        let mut poll = broker.poll(&key);
        // Longer than the socket's buffer, so that it arrives in pieces.
        let message = key.message_with(&"x".repeat(round * 70_000));
        let mut supervisor = UnixStream::connect(&path).expect("connected");
        supervisor.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        supervisor.write_all(&trigger::dispatch(&message)).expect("sent");
        assert_eq!(poll.response().text(), message);
        drop(poll);
        let mut answer = [0; 512];
        let count = supervisor.read(&mut answer).expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..count]);
        assert!(answer.ends_with(r#"{"didWarmStart":true}"#), "{answer}");
        // A second one on the same connection.
        supervisor.write_all(&key.dispatch()).expect("sent");
        let mut answer = [0; 512];
        let count = supervisor.read(&mut answer).expect("an answer");
        assert!(answer[..count].ends_with(br#"{"didWarmStart":false}"#));
    }
    let head = "POST /nowhere HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
    assert!(ask(&path, head).starts_with("HTTP/1.1 404"));
    drop(broker);
    assert!(!Path::new(&path).exists(), "the broker removes its file");
}

#[test]
fn a_unix_domain_socket_serves_the_admin_side() {
    let folder = Folder::new("admin");
    let path = folder.path("a.sock");
    let broker = Broker::start(&format!("--workers 1 --dispatch-listen unix:{}", folder.path("d.sock")));
    // A second broker with its admin side on a socket, since `Broker` needs an admin side on TCP.
    let mut second = Command::new(env!("CARGO_BIN_EXE_pilotlight"))
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", &format!("unix:{path}")])
        .spawn()
        .expect("started");
    // The file exists a moment before the broker listens on it.
    let ready = || {
        UnixStream::connect(&path).is_ok()
            && ask(&path, "GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").contains("200 OK")
    };
    wait_until("ready", String::new, ready);
    let admin = format!("unix:{path}");
    for (args, says) in [
        (&["cordon", "--admin", &admin, "--node", "n"][..], "cordoned node n"),
        (&["cordon", "--admin", &admin][..], "node n"),
        (&["uncordon", "--admin", &admin, "--node", "n"][..], "uncordoned node n"),
    ] {
        let output = pilotlight(args);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains(says), "{output:?}");
    }
    second.kill().expect("killed");
    second.wait().expect("waited");
    assert!(Path::new(&path).exists(), "a killed broker leaves its file");
    let output = pilotlight(&["cordon", "--admin", &admin]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    drop(broker);
    let stale = Broker::start(&format!("--workers 1 --dispatch-listen unix:{path}"));
    assert!(ask(&path, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").starts_with("HTTP/1.1 404"), "replaced");
    drop(stale);
}

#[test]
fn a_second_broker_takes_over_a_unix_domain_socket() {
    let folder = Folder::new("takeover");
    let path = folder.path("d.sock");
    let old = Broker::start(&format!("--workers 1 --dispatch-listen unix:{path}"));
    let line = refused_at_run_time(&format!("--dispatch-listen unix:{path}"));
    assert!(line.contains("--takeover"), "{line}");
    let new = Broker::start(&format!("--workers 1 --dispatch-listen unix:{path} --takeover"));
    let key = Key::fresh();
    let mut poll = new.poll(&key);
    drop(old);
    let mut supervisor = UnixStream::connect(&path).expect("the old broker leaves the new one's file");
    supervisor.write_all(&key.dispatch()).expect("sent");
    assert_eq!(poll.response().status, 200);
    drop(poll);
    drop(supervisor);
    drop(new);
    assert!(!Path::new(&path).exists());
}

fn refused_at_run_time(flags: &str) -> String {
    let fixed = "serve --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0";
    let args: Vec<&str> = fixed.split(' ').chain(flags.split_whitespace()).collect();
    let output = pilotlight(&args);
    assert_eq!(output.status.code(), Some(1), "{flags}: {output:?}");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    said.lines().last().expect("a line").to_owned()
}

#[test]
fn cordons_need_the_admin_token() {
    let folder = Folder::new("token");
    let (token, wrong) = (folder.path("token"), folder.path("wrong"));
    fs::write(&token, "0123456789abcdef0123456789abcdef\n").expect("written");
    fs::write(&wrong, "0123456789abcdef0123456789abcdeX\n").expect("written");
    fs::write(folder.path("short"), "0123456789").expect("written");
    let broker = Broker::start(&format!("--workers 1 --admin-token-file {token}"));
    let admin = format!("http://{}", broker.admin);
    let cordon = |file: Option<&str>| {
        let mut args = vec!["cordon", "--admin", &admin, "--deployment", "d"];
        args.extend(file.into_iter().flat_map(|file| ["--admin-token-file", file]));
        pilotlight(&args)
    };
    for file in [None, Some(wrong.as_str())] {
        let output = cordon(file);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1));
        assert!(said.contains("401") && said.contains("--admin-token-file"), "{said}");
    }
    assert_eq!(cordon(Some(&folder.path("short"))).status.code(), Some(2));
    assert!(
        pilotlight(&["cordon", "--admin", &admin]).stdout.starts_with(b"nothing is cordoned"),
        "listing needs no token"
    );
    assert!(cordon(Some(&token)).status.success());
    assert!(pilotlight(&["cordon", "--admin", &admin]).stdout.starts_with(b"deployment d"));
    let cmdline = fs::read_to_string(format!("/proc/{}/cmdline", broker.pid())).expect("/proc");
    assert!(!cmdline.contains("0123456789abcdef") && !broker.log().contains("0123456789abcdef"));
}

/// One field of /proc/PID/task/*/status, for every thread.
fn of_each_thread(pid: u32, field: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("/proc");
    tasks
        .map(|task| {
            let status = fs::read_to_string(task.expect("a thread").path().join("status")).expect("/proc");
            let line = status.lines().find_map(|line| line.strip_prefix(field)).expect(field);
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect()
}

#[test]
fn privileges_are_given_up_in_every_thread() {
    let broker = Broker::start("--workers 2");
    assert!(of_each_thread(broker.pid(), "NoNewPrivs:").iter().all(|value| value == "1"));
    drop(broker);

    let folder = Folder::new("user");
    let path = folder.path("d.sock");
    let flags = format!("--workers 2 --user 65534:65533 --dispatch-listen unix:{path}");
    let broker = Broker::start(&flags);
    let all = |field: &str, expected: &str| {
        let values = of_each_thread(broker.pid(), field);
        assert!(values.len() >= 3 && values.iter().all(|value| value == expected), "{field} {values:?}");
    };
    all("Uid:", "65534 65534 65534 65534");
    all("Gid:", "65533 65533 65533 65533");
    all("Groups:", "");
    for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
        all(set, "0000000000000000");
    }
    let file = fs::metadata(&path).expect("a file");
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (65_534, 65_533, 0o660));
    drop(broker);
    assert!(!Path::new(&path).exists(), "the user may write to its directory");
}

#[test]
fn an_unusable_user_is_named() {
    let said = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_pilotlight")])
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--user", "1000:1000"])
        .output()
        .expect("setpriv: install util-linux");
    let line = String::from_utf8(said.stderr).expect("UTF-8");
    assert_eq!(said.status.code(), Some(1), "{line}");
    assert!(
        line.contains("--user: not permitted to become user 1000") && line.contains("start as root"),
        "{line}"
    );
}

/// Both brokers bind as root before they change their user, so the kernel lets them share the port.
#[test]
fn unprivileged_brokers_share_a_port_for_a_takeover() {
    let old = Broker::start("--workers 2 --user 65534:65534");
    let listen = old.runner.to_string();
    let new = Broker::start(&format!("--workers 2 --user 65534:65534 --takeover --listen {listen}"));
    drop(old);
    let key = Key::fresh();
    let mut poll = new.poll(&key);
    new.deliver(&key, &mut poll);
}

#[test]
fn seccomp_filters_the_workers() {
    let broker = Broker::start("--workers 2 --seccomp");
    // Mode 2 is a filter (proc(5)). The control thread has none.
    let filtered = of_each_thread(broker.pid(), "Seccomp:").iter().filter(|mode| *mode == "2").count();
    let before = of_each_thread(std::process::id(), "Seccomp:").iter().filter(|mode| *mode == "2").count();
    assert!(filtered == 2 || before > 0, "{filtered} threads");
    let key = Key::fresh();
    let mut poll = broker.poll(&key);
    broker.deliver(&key, &mut poll);
}
