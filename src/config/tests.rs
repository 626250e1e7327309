use super::*;
use crate::broker::settings::{Confirm, ConnectionLimit, MatchOrder, TokenMode};
use crate::sys::Machine;
use crate::sys::activation::Activated;
use crate::sys::descriptors::Descriptors;
use crate::sys::variables::{SecretVariable, TokenVariables};
use std::fs::{self, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;

fn machine() -> Machine {
    Machine {
        cpus: vec![0, 1, 2, 3, 6],
        parallelism: 2,
        descriptors: Descriptors { before: 1_024, limit: 20_000 },
        own_tables: true,
        activated: Activated::default(),
        token_variables: TokenVariables::default(),
    }
}

fn resolve_on(machine: Machine, typed: &[&str]) -> Result<ServeConfig, ConfigError> {
    let command = flags::add_to(clap::Command::new("serve"));
    let matches = command.get_matches_from(["serve"].iter().chain(typed));
    ServeConfig::resolve(ServeFlags::from_matches(&matches).expect("no help"), machine)
}

fn resolve(typed: &[&str]) -> Result<ServeConfig, ConfigError> {
    resolve_on(machine(), typed)
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = resolve(&[]).expect("defaults");
    assert!(
        matches!(config.listeners.runner, ListenSpec::Addr(addr) if addr == "127.0.0.1:8040".parse().unwrap())
    );
    assert!(config.listeners.dispatch.is_none());
    assert!(
        matches!(config.listeners.admin, ListenSpec::Addr(addr) if addr == "127.0.0.1:8042".parse().unwrap())
    );
    assert_eq!(config.workers, [None, None]);
    assert_eq!(config.engine, EngineChoice::Auto);
    assert_eq!(
        config.tcp,
        TcpOptions {
            backlog: 65_535,
            user_timeout_ms: 8_000,
            keepalive_idle_s: 4,
            keepalive_interval_s: 2,
            keepalive_count: 2,
        }
    );
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.log.filter, "info");
    let settings = config.settings;
    assert_eq!(settings.connection_timeout_ms, 30_000);
    assert_eq!(settings.keepalive_ms, 300_000);
    assert_eq!(settings.keys_max, 65_536);
    assert_eq!(settings.body_bytes_max, 16 << 20);
    assert_eq!(settings.head_bytes_max, 16 << 10);
    assert_eq!(settings.request_timeout_ms, 30_000);
    assert_eq!(settings.idle_timeout_ms, 60_000);
    assert_eq!(settings.preconnect_timeout_ms, 80_000);
    assert_eq!(settings.write_timeout_ms, 10_000);
    assert_eq!(settings.match_order, MatchOrder::Newest);
    assert_eq!(settings.confirm, Confirm::Read);
    assert_eq!(settings.ack_timeout_ms, 300);
    assert_eq!(settings.read_timeout_ms, 1_000);
    assert_eq!(settings.dispatch_timeout_ms, 2_000);
    assert_eq!(settings.attempts_max, 3);
    assert_eq!(settings.guard_ms, 500);
    assert_eq!(settings.shutdown_time_ms, 5_000);
    assert!(settings.dispatch_on_runner_side);
    assert_eq!(settings.token_mode, TokenMode::Off);
    assert_eq!(settings.tokens_max, 4_096);
}

#[test]
fn auto_values_follow_the_connection_timeout() {
    let settings = resolve(&["--connection-timeout", "400ms"]).unwrap().settings;
    assert_eq!(settings.guard_ms, 40);
    assert_eq!(settings.preconnect_timeout_ms, 6_000);
    let settings = resolve(&["--guard", "0s", "--preconnect-timeout", "1s"]).unwrap().settings;
    assert_eq!(settings.guard_ms, 0);
    assert_eq!(settings.preconnect_timeout_ms, 1_000);
}

#[test]
fn coalescing_defaults_to_confirm_read_only() {
    let coalesce = |typed: &[&str]| resolve(typed).unwrap().coalesce.as_micros();
    assert_eq!(coalesce(&[]), 300);
    assert_eq!(coalesce(&["--confirm", "ack"]), 0);
    assert_eq!(coalesce(&["--confirm", "write", "--coalesce", "50us"]), 50);
    assert_eq!(coalesce(&["--coalesce", "0s"]), 0);
}

#[test]
fn max_connections_follows_the_descriptor_limit() {
    let in_one_table = 20_000 - 32 - 64 - 3 * 8;
    let config = resolve(&["--workers", "3", "--descriptor-tables", "process"]).unwrap();
    assert_eq!((config.connections_max, config.own_tables), (in_one_table, false));
    let ConnectionLimit { own, common } = config.settings.connections;
    assert_eq!(3 * own + common, config.connections_max, "a limit of all workers together");
    let config = resolve(&["--workers", "3"]).unwrap();
    assert_eq!((config.connections_max, config.own_tables), (3 * in_one_table, true));
    assert_eq!(config.settings.connections, ConnectionLimit { own: in_one_table, common: 0 });
    let config = resolve(&["--max-connections", "1000"]).unwrap();
    assert_eq!(config.connections_max, 1_000);
    assert_eq!(config.settings.connections, ConnectionLimit::of(1_000, config.workers.len()));
}

#[test]
fn own_tables_need_kernel_support() {
    let without = || Machine { own_tables: false, ..machine() };
    let config = resolve_on(without(), &["--workers", "3"]).unwrap();
    assert!(!config.own_tables && config.connections_max < 20_000);
    let error = resolve_on(without(), &["--descriptor-tables", "worker"]).unwrap_err().to_string();
    assert!(error.contains("\"worker\" is not supported here"), "{error}");
    assert!(resolve(&["--descriptor-tables", "worker"]).unwrap().own_tables);
}

#[test]
fn several_workers_share_a_large_table() {
    let own = |limit: usize, typed: &[&str]| {
        let descriptors = Descriptors { limit, ..machine().descriptors };
        resolve_on(Machine { descriptors, ..machine() }, typed).unwrap().own_tables
    };
    assert!(!own(524_288, &["--workers", "2"]));
    assert!(own(524_288, &["--workers", "1"]));
    assert!(own(524_288, &["--workers", "2", "--max-connections", "600000"]));
    assert!(own(524_288, &["--workers", "2", "--descriptor-tables", "worker"]));
    assert!(own(20_000, &["--workers", "2"]));
    assert!(!own(20_000, &["--workers", "2", "--max-connections", "19000"]));
}

#[test]
fn cpus_are_one_worker_each() {
    let config = resolve(&["--cpus", "2,0-1"]).unwrap();
    assert_eq!(config.workers, [Some(2), Some(0), Some(1)]);
}

#[test]
fn a_dispatch_listener_takes_dispatch_off_the_runner_side() {
    let config = resolve(&["--dispatch-listen", "127.0.0.1:8041"]).unwrap();
    assert!(!config.settings.dispatch_on_runner_side);
    assert!(config.listeners.dispatch.is_some());
}

#[test]
fn access_and_limits_follow_their_flags() {
    let config = resolve(&[]).unwrap();
    assert!(config.dispatch_allow.is_none() && config.settings.dispatch_from_anyone);
    assert!(matches!(config.admin_changes, AdminChanges::Allowed));
    assert_eq!(config.settings.buffered_bytes_max, 128 << 20);
    assert_eq!(config.settings.connections_per_address_max, u32::MAX);
    assert_eq!(config.settings.polls_per_key_max, usize::MAX);
    let config = resolve(&["--dispatch-allow", "10.0.3.7/24, fd00::7"]).unwrap();
    let nets: Vec<String> = config.dispatch_allow.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(nets, ["10.0.3.0/24", "fd00::7/128"]);
    assert!(!config.settings.dispatch_from_anyone, "dispatches need an address in the list");
    let config = resolve(&["--admin-listen", "[::]:8042", "--max-body", "64MiB"]).unwrap();
    assert!(matches!(config.admin_changes, AdminChanges::Denied));
    assert_eq!(config.settings.buffered_bytes_max, 256 << 20);
    let config = resolve(&["--max-polls-per-key", "5", "--max-connections-per-address", "6"]).unwrap();
    assert_eq!(config.settings.polls_per_key_max, 5);
    assert_eq!(config.settings.connections_per_address_max, 6);
    let unix = ["--dispatch-listen", "unix:/run/d.sock", "--admin-listen", "unix:/run/a.sock"];
    let config = resolve(&unix).unwrap();
    assert!(matches!(config.listeners.dispatch, Some(ListenSpec::Unix(_))));
    assert!(matches!(config.admin_changes, AdminChanges::Allowed));
}

#[test]
fn activated_sockets_replace_addresses() {
    let mut machine = machine();
    let fd = || Some(OwnedFd::from(File::open("/dev/null").unwrap()));
    machine.activated.runner = fd();
    machine.activated.dispatch = fd();
    let config = resolve_on(machine, &[]).unwrap();
    assert!(matches!(config.listeners.runner, ListenSpec::Fd(_)));
    assert!(matches!(config.listeners.dispatch, Some(ListenSpec::Fd(_))));
    assert!(matches!(config.listeners.admin, ListenSpec::Addr(_)));
    assert!(!config.settings.dispatch_on_runner_side);
}

#[test]
fn port_0_may_repeat() {
    let any = "127.0.0.1:0";
    assert!(resolve(&["--listen", any, "--dispatch-listen", any, "--admin-listen", any]).is_ok());
}

#[test]
fn boundary_values_are_accepted() {
    for flags in [
        &["--connection-timeout", "1ms"][..],
        &["--connection-timeout", "299999ms"],
        &["--keepalive", "2147483647ms"],
        &["--idle-timeout", "4001ms"],
        &["--max-head", "1KiB"],
        &["--max-head", "1MiB"],
        &["--max-body", "1GiB"],
        &["--max-attempts", "255"],
        &["--ack-timeout", "1999ms"],
        &["--shutdown-time", "0s"],
        &["--tcp-user-timeout", "0s"],
        &["--tcp-keepalive-count", "127"],
        &["--workers", "64"],
        &["--max-connections", "19888"],
        &["--log-level", "warn,pilotlight::control=debug"],
    ] {
        if let Err(error) = resolve(flags) {
            panic!("{flags:?}: {error}");
        }
    }
}

/// Flags, and texts that their error must contain after flag and variable.
const REFUSED: &[(&[&str], &[&str])] = &[
    (&["--keepalive", "abc"], &["\"abc\" is not a duration. Use a value such as 30s or 5m."]),
    (&["--keepalive", "1500us"], &["\"1500us\" is not a whole number of milliseconds. Use"]),
    (&["--confirm", "maybe"], &["\"maybe\" is not a valid choice. Use one of read, ack, write."]),
    (&["--max-body", "16M"], &["\"16M\" is not a size. Use"]),
    (&["--guard", "soon"], &["\"soon\" is not a duration. Use", "or auto."]),
    (&["--max-polls-per-key", "0"], &["\"0\" is not a count. Use", "or off."]),
    (&["--unix-mode", "999"], &["\"999\" is not a file mode. Use"]),
    (&["--tls-cert", ""], &["\"\" is not a path. Use"]),
    (&["--connection-timeout", "0s"], &["\"0s\" is out of range", "above 0s"]),
    (&["--connection-timeout", "300s"], &["\"300s\"", "below 300s"]),
    (&["--keepalive", "0s"], &["\"0s\" is out of range"]),
    (&["--keepalive", "2147483648ms"], &["2147483647ms"]),
    (&["--ack-timeout", "2s"], &["\"2s\" is not less than --dispatch-timeout (2s)"]),
    (&["--ack-timeout", "0s"], &["\"0s\" is out of range", "from 1ms"]),
    (&["--read-timeout", "3s"], &["\"3s\" is not less than --dispatch-timeout (2s)"]),
    (&["--dispatch-timeout", "0s"], &["\"0s\" is out of range"]),
    (&["--guard", "30s"], &["\"30s\" is not less than --connection-timeout (30s)"]),
    (&["--idle-timeout", "4s"], &["\"4s\" is too short. Use a duration above 4s"]),
    (&["--idle-timeout", "25h"], &["\"25h\" is out of range"]),
    (&["--preconnect-timeout", "0s"], &["\"0s\" is out of range"]),
    (&["--request-timeout", "0s"], &["\"0s\" is out of range"]),
    (&["--write-timeout", "25h"], &["\"25h\" is out of range", "24h"]),
    (&["--shutdown-time", "25h"], &["\"25h\" is out of range", "from 0s to 24h"]),
    (&["--max-head", "1023"], &["\"1023\" is out of range", "from 1KiB to 1MiB"]),
    (&["--max-head", "2MiB"], &["\"2MiB\"", "1MiB"]),
    (&["--max-body", "1"], &["\"1\" is out of range"]),
    (&["--max-body", "2GiB"], &["1024MiB"]),
    (&["--max-attempts", "256"], &["\"256\" is out of range", "from 1 to 255"]),
    (&["--max-keys", "99999999"], &["\"99999999\" is out of range"]),
    (&["--tcp-keepalive-idle", "1500ms"], &["\"1500ms\"", "whole seconds"]),
    (&["--tcp-keepalive-idle", "0s"], &["\"0s\"", "from 1s"]),
    (&["--tcp-keepalive-interval", "32768s"], &["32767s"]),
    (&["--tcp-keepalive-count", "128"], &["\"128\"", "from 1 to 127"]),
    (&["--tcp-user-timeout", "25h"], &["from 0s to 24h"]),
    (&["--listen", "8040"], &["\"8040\" is not an IP address with a port", "127.0.0.1:8040"]),
    (&["--listen", "localhost:8040"], &["\"localhost:8040\" is not an IP address with a port"]),
    (&["--listen", "unix:/run/pilotlight.sock"], &["delivery cannot be confirmed"]),
    (&["--dispatch-listen", ""], &["\"\" is not an IP address with a port"]),
    (&["--dispatch-listen", "unix:d.sock"], &["\"unix:d.sock\" is not the absolute path"]),
    (&["--dispatch-listen", "127.0.0.1:8040"], &["\"127.0.0.1:8040\" is also the address of --listen"]),
    (&["--admin-listen", "127.0.0.1:8040"], &["\"127.0.0.1:8040\" is also the address of --listen"]),
    (
        &["--admin-listen", "unix:/run/a", "--dispatch-listen", "unix:/run/a"],
        &["\"unix:/run/a\" is also the address of --dispatch-listen"],
    ),
    (&["--dispatch-allow", "10.0.0.0/33"], &["\"10.0.0.0/33\" is not a list of networks"]),
    (&["--cpus", "0-3", "--workers", "2"], &["\"0-3\" conflicts with --workers 2", "Omit one"]),
    (&["--cpus", "3-0"], &["\"3-0\" is not a list of CPUs", "0-3"]),
    (&["--cpus", "1,1"], &["\"1,1\"", "twice"]),
    (&["--cpus", "0,4"], &["\"0,4\" names CPU 4", "0-3,6"]),
    (&["--workers", "65"], &["\"65\" is out of range", "from 1 to 64"]),
    (&["--coalesce", "11ms"], &["\"11ms\" is out of range", "from 0s to 10ms"]),
    (&["--coalesce-from-percent", "101"], &["\"101\" is out of range", "from 1 to 100"]),
    (
        &["--max-connections", "39777"],
        &["\"39777\"", "20000 open files for each worker", "39776", "ulimit -Hn", "LimitNOFILE"],
    ),
    (&["--max-connections", "16777217"], &["\"16777217\" is out of range", "16777216"]),
    (&["--max-connections", "1"], &["\"1\" is fewer than the 2 workers"]),
    (&["--max-buffered", "1MiB"], &["\"1MiB\" is too small", "--max-body (16MiB)"]),
    (&["--log-level", "loud"], &["\"loud\" is not a log level", "debug"]),
    (&["--log-level", "pilotlight=loud"], &["\"pilotlight=loud\""]),
    (&["--otlp-endpoint", "https://a:4318"], &["\"https://a:4318\" needs TLS"]),
    (&["--otlp-timeout", "61s"], &["\"61s\" is out of range", "60s"]),
    (&["--max-queued-spans", "256"], &["\"256\" is too few", "257"]),
    (&["--traced-dispatches", "10001"], &["\"10001\" is out of range", "10000"]),
    (&["--user", "root"], &["\"root\" cannot be used: that is root"]),
    (&["--admin-token-file", "/nowhere"], &["\"/nowhere\" cannot be read"]),
    (&["--tls-cert", "/c"], &["\"/c\" needs --tls-key"]),
    (&["--dispatch-tls-key", "/k"], &["\"/k\" needs --dispatch-tls-cert"]),
];

#[test]
fn invalid_values_are_refused_with_advice() {
    for (flags, needles) in REFUSED {
        let error = match resolve(flags) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{flags:?} was accepted"),
        };
        let variable = format!("PILOTLIGHT_{}", flags[0][2..].replace('-', "_").to_uppercase());
        let start = format!("{} ({variable}): ", flags[0]);
        assert!(error.starts_with(&start) && error.ends_with('.'), "{flags:?}: {error}");
        assert!(!error.contains('\n'), "{flags:?}: {error}");
        for needle in *needles {
            assert!(error.contains(needle), "{flags:?}: {needle:?} is not in: {error}");
        }
    }
}

#[test]
fn too_few_descriptors_are_refused() {
    let mut machine = machine();
    machine.descriptors.limit = 64;
    let error = resolve_on(machine, &[]).unwrap_err().to_string();
    for needle in ["PILOTLIGHT_MAX_CONNECTIONS): \"auto\"", "64 open files", "ulimit -Hn"] {
        assert!(error.contains(needle), "{needle:?} is not in: {error}");
    }
}

#[test]
fn io_uring_needs_its_feature() {
    let asked = resolve(&["--engine", "io-uring"]).map(|config| config.engine);
    if cfg!(feature = "io-uring") {
        assert_eq!(asked, Ok(EngineChoice::IoUring));
    } else {
        let error = asked.unwrap_err().to_string();
        assert!(error.contains("\"io-uring\" is not in this build"), "{error}");
    }
    assert!(resolve(&["--engine", "epoll"]).is_ok());
}

fn with_variables(secret: Option<&'static str>, enforcement: Option<&str>) -> Machine {
    let secret = secret.map(|value| SecretVariable {
        name: "WORKLOAD_TOKEN_SECRET",
        value: value.as_bytes().to_vec().into(),
    });
    let token_variables = TokenVariables { secret, enforcement: enforcement.map(str::to_owned) };
    Machine { token_variables, ..machine() }
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn token_mode_comes_from_the_flag_or_the_supervisor_variable() {
    for (secret, enforcement, flags, expected) in [
        (None, None, &[][..], TokenMode::Off),
        (None, Some("disabled"), &[], TokenMode::Off),
        (Some(SECRET), Some("disabled"), &[], TokenMode::Off),
        (Some(SECRET), Some("log"), &[], TokenMode::Log),
        (Some(SECRET), Some("enforce"), &[], TokenMode::Enforce),
        (Some(SECRET), Some("enforce"), &["--token-mode", "log"], TokenMode::Log),
        (Some(SECRET), Some("enforce"), &["--token-mode", "disabled"], TokenMode::Off),
        (Some(SECRET), None, &["--token-mode", "off"], TokenMode::Off),
        (Some(SECRET), None, &["--token-mode", "enforce"], TokenMode::Enforce),
    ] {
        let config = resolve_on(with_variables(secret, enforcement), flags).unwrap();
        assert_eq!(config.settings.token_mode, expected, "{enforcement:?} {flags:?}");
        let needed = usize::from(expected != TokenMode::Off);
        assert_eq!(config.settings.token_secrets.len(), needed, "{enforcement:?} {flags:?}");
        assert_eq!(config.tokens.source.is_some(), needed == 1);
    }
}

#[test]
fn token_mode_and_secret_need_each_other() {
    for (secret, enforcement, flags, needles) in [
        (None, None, &["--token-mode", "enforce"][..], &["\"enforce\" needs", "--token-secret-file"][..]),
        (None, Some("log"), &[], &["\"log\" needs", "WORKLOAD_TOKEN_SECRET"]),
        (Some(SECRET), None, &[], &["--token-mode (PILOTLIGHT_TOKEN_MODE): unset", "WORKLOAD_TOKEN_SECRET"]),
        (
            Some(SECRET),
            Some("on"),
            &[],
            &["WORKLOAD_TOKEN_ENFORCEMENT: \"on\" is not", "disabled, log, enforce"],
        ),
        (None, None, &["--token-secret-file", "/nowhere"], &["TOKEN_MODE): unset", "/nowhere"]),
        (
            None,
            None,
            &["--token-mode", "log", "--token-secret-file", "/nowhere"],
            &["(PILOTLIGHT_TOKEN_SECRET_FILE): \"/nowhere\" cannot be read"],
        ),
        (None, None, &["--max-tokens", "9999999"], &["\"9999999\" is out of range", "1048576"]),
    ] {
        let error = resolve_on(with_variables(secret, enforcement), flags).unwrap_err().to_string();
        assert!(!error.contains(SECRET) && !error.contains('\n'), "{error}");
        for needle in needles {
            assert!(error.contains(needle), "{needle:?} is not in: {error}");
        }
    }
}

#[test]
fn secret_files_are_checked() {
    let path = std::env::temp_dir().join(format!("pilotlight-config-{}", std::process::id()));
    let long = SECRET.to_owned() + "\n";
    let read = |text: &[u8], mode: u32| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let loaded = load_secrets(&path);
        fs::remove_file(&path).unwrap();
        loaded.map(|loaded| (loaded.secrets.len(), loaded.warnings)).map_err(|error| error.to_string())
    };
    assert_eq!(read(long.as_bytes(), 0o600), Ok((1, vec![])));
    assert_eq!(read(SECRET.as_bytes(), 0o640), Ok((1, vec![])));
    assert_eq!(read(format!("\r\n{SECRET}\r\n\n{SECRET}x").as_bytes(), 0o600), Ok((2, vec![])));
    assert_eq!(read(long.repeat(16).as_bytes(), 0o600).map(|(count, _)| count), Ok(16));
    let (_, warnings) = read(b"a short one\n", 0o644).unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("line 1: a secret of 11 bytes"), "{warnings:?}");
    assert!(warnings[1].contains("chmod o-r"), "{warnings:?}");
    for (text, error) in [
        (&b""[..], "contains no secret"),
        (b"\n\r\n\n", "contains no secret"),
        (b"good\n bad\n", "blank at the start or end of line 2"),
        (b"bad \n", "blank at the start or end of line 1"),
        (long.repeat(17).as_bytes(), "17 secrets. Use at most 16"),
        (&[b'x'; (64 << 10) + 1], "is longer than 65536 bytes"),
    ] {
        let refused = read(text, 0o600).unwrap_err();
        assert!(refused.contains(error) && !refused.contains("bad"), "{refused}");
    }
}
