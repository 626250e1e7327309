//! Who may import whom. The rules are below, so that they can be read, and held, in one place.

#[path = "architecture/source.rs"]
mod source;

use source::Source;
use std::fs;
use std::path::{Path, PathBuf};

/// What each part of the crate may refer to in the others: a module, or only some of its names.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("broker", &[]),
    ("sys", &[]),
    ("cli", &["config"]),
    ("config", &["broker::settings", "broker::token::Secrets", "sys"]),
    ("engine", &["broker", "sys"]),
    ("clients", &["cli", "config", "control::lifecycle", "sys"]),
    ("shard", &["broker", "config", "engine", "sys"]),
    ("top", &["cli", "control::client"]),
    (
        "control",
        &[
            "broker::counters",
            "broker::event",
            "broker::histogram",
            "broker::report",
            "broker::settings",
            "broker::token::Secrets",
            "config",
            "shard::Fleet",
            "shard::Observed",
            "shard::StartError",
            "shard::Started",
            "shard::start",
            "sys",
        ],
    ),
];

/// Other crates that only some parts may refer to. The broker may refer to none but its own.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("axum", &["control"]),
    ("base64", &["broker"]),
    ("clap", &["cli", "config"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("crossbeam_channel", &["shard"]),
    ("futures_util", &["control"]),
    ("hdrhistogram", &["clients"]),
    ("hmac", &["broker"]),
    ("http_body_util", &["control"]),
    ("hyper", &["control"]),
    ("hyper_util", &["control"]),
    ("io_uring", &["engine"]),
    ("ipnet", &["config", "shard"]),
    ("libc", &["engine", "sys"]),
    ("mio", &["clients", "engine"]),
    ("nix", &["engine", "sys"]),
    ("opentelemetry", &["control"]),
    ("opentelemetry_http", &["control"]),
    ("opentelemetry_otlp", &["control"]),
    ("opentelemetry_proto", &["control"]),
    ("opentelemetry_sdk", &["control"]),
    ("prometheus_client", &["control"]),
    ("prost", &["control"]),
    ("ratatui", &["top"]),
    ("rustix", &["sys"]),
    ("rustls", &["engine", "sys"]),
    ("sd_notify", &["sys"]),
    ("seccompiler", &["sys"]),
    ("serde", &["control", "top"]),
    ("serde_json", &["control"]),
    ("sha2", &["broker"]),
    ("socket2", &["engine", "sys"]),
    ("subtle", &["control"]),
    ("tokio", &["control"]),
    ("tracing_subscriber", &["control"]),
    ("zeroize", &["config", "sys"]),
];

/// The crates that the pure core is made of.
const BROKER_CRATES: &[&str] =
    &["ahash", "base64", "hashbrown", "hmac", "httparse", "itoa", "memchr", "sha2", "slab", "wide"];

/// What the pure core may not have of the standard library: the world, time, threads, chance.
const NOT_IN_BROKER: &[&str] = &[
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::collections::hash_map",
    "std::env",
    "std::fs",
    "std::hash::RandomState",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::sync",
    "std::thread",
    "std::time",
];
/// And what it may have of those after all.
const STILL_IN_BROKER: &[&str] = &["std::sync::Arc", "std::time::Duration"];
const NO_MACROS_IN_BROKER: &[&str] = &["dbg", "eprint", "eprintln", "print", "println"];

/// The two engines, which never see each other.
const ENGINES: [&str; 2] = ["epoll", "uring"];

/// Where `unsafe` may be written.
const UNSAFE_IN: &[&str] = &["engine", "sys"];

#[test]
fn every_file_keeps_to_the_rules() {
    let files = files();
    assert!(files.len() > 20, "only {} files were found", files.len());
    let mut broken = Vec::new();
    for (module, text) in &files {
        let segments: Vec<&str> = module.split("::").filter(|name| !name.is_empty()).collect();
        let found = violations(&segments, text);
        broken.extend(found.iter().map(|what| format!("{module}: {what}")));
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

/// What `text`, the source of the module at `module`, does that it may not.
fn violations(module: &[&str], text: &str) -> Vec<String> {
    let source = Source::read(text, module);
    let part = match module.first() {
        // The crate's root names its parts.
        None => return Vec::new(),
        Some(part) => *part,
    };
    let Some((_, may_import)) = MAY_IMPORT.iter().find(|(of, _)| *of == part) else {
        return vec![format!("src/{part} has no rule yet: add it to MAY_IMPORT")];
    };
    let mut found = Vec::new();
    if source.has_unsafe && !UNSAFE_IN.contains(&part) {
        found.push("unsafe".to_owned());
    }
    for path in &source.paths {
        let allowed = match path.strip_prefix("crate::") {
            Some(inner) => is_within(inner, part) || may_import.iter().any(|may| leads_to(inner, may)),
            None => part_may_use(part, path),
        };
        let engine =
            ENGINES.iter().position(|engine| is_within(&module.join("::"), &format!("engine::{engine}")));
        let crossed =
            engine.is_some_and(|own| is_within(path, &format!("crate::engine::{}", ENGINES[1 - own])));
        if !allowed || crossed {
            found.push(path.clone());
        }
    }
    if part == "broker" {
        let printing = source.macros.iter().filter(|name| NO_MACROS_IN_BROKER.contains(&name.as_str()));
        found.extend(printing.map(|name| format!("{name}!")));
    }
    found
}

/// `path` is `module` or something in it.
fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// `path` is within what may be imported, or is a module on the way there (what is taken from it shows elsewhere).
fn leads_to(path: &str, may: &str) -> bool {
    is_within(path, may) || is_within(may, path)
}

fn part_may_use(part: &str, path: &str) -> bool {
    let root = path.split("::").next().unwrap_or(path);
    if let Some((_, parts)) = ONLY_IN.iter().find(|(name, _)| *name == root) {
        return parts.contains(&part);
    }
    match root {
        "std" | "core" | "alloc" if part == "broker" => {
            let path = path.replacen(root, "std", 1);
            let within = |list: &[&str]| list.iter().any(|name| is_within(&path, name));
            path != "std" && (within(STILL_IN_BROKER) || !within(NOT_IN_BROKER))
        }
        _ if part == "broker" && dependencies().iter().any(|name| name == root) => {
            BROKER_CRATES.contains(&root)
        }
        _ => true,
    }
}

/// Every crate that Cargo.toml names, as Rust spells it.
fn dependencies() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let lines = manifest.lines().filter_map(|line| line.split_once(" = "));
    let names = lines.map(|(name, _)| name.replace('-', "_"));
    // The keys of other sections do no harm: no path begins with them.
    names.filter(|name| name.chars().all(|next| next.is_alphanumeric() || next == '_')).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file but main.rs and the files of tests: its module path and its text.
fn files() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    walk(&root().join("src"), &mut paths);
    let mut files = Vec::new();
    let mut of_tests: Vec<String> = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("UTF-8");
        let module = module_of(&path);
        let segments: Vec<&str> = module.split("::").filter(|name| !name.is_empty()).collect();
        let prefix = if module.is_empty() { String::new() } else { format!("{module}::") };
        let source = Source::read(&text, &segments);
        of_tests.extend(source.test_modules.iter().map(|name| format!("{prefix}{name}")));
        if module != "main" {
            files.push((module, text));
        }
    }
    files.retain(|(module, _)| !of_tests.iter().any(|test| is_within(module, test)));
    files
}

fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => walk(&path, into),
            false if path.extension().is_some_and(|end| end == "rs") => into.push(path),
            false => (),
        }
    }
}

/// `src/engine/epoll.rs` is `engine::epoll`; `src/engine/mod.rs` is `engine`; `src/lib.rs` is the root.
fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).expect("in src").with_extension("");
    let names: Vec<&str> = inside.iter().filter_map(|name| name.to_str()).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| !matches!(*name, "mod" | "lib")).collect();
    names.join("::")
}

/// Source of a module, and what of it is against the rules.
const CASES: &[(&[&str], &str, &[&str])] = &[
    // The core sees nothing but itself and its own crates.
    (&["broker"], "use crate::broker::pool::Pool; use slab::Slab; use std::sync::Arc;", &[]),
    (&["broker", "pool"], "use super::timer::Wheel; use self::key::Key; mod key;", &[]),
    (&["broker", "pool"], "use super::super::shard::Fleet;", &["crate::shard::Fleet"]),
    (&["broker"], "use crate::sys;", &["crate::sys"]),
    (
        &["broker"],
        "use crate::{broker::time, sys::{cpus, listen::Side}};",
        &["crate::sys::cpus", "crate::sys::listen::Side"],
    ),
    (&["broker"], "fn f() { crate::sys::cpus::allowed(); }", &["crate::sys::cpus::allowed"]),
    (&["broker"], "use tracing::info;", &["tracing::info"]),
    (&["broker"], "fn f() { humantime::parse_duration(s); }", &["humantime::parse_duration"]),
    (
        &["broker"],
        "use serde_json as json; fn f() { json::from_str(s) }",
        &["serde_json", "serde_json::from_str"],
    ),
    (&["broker"], "use std::time::{Duration, Instant};", &["std::time::Instant"]),
    (&["broker"], "use std::{fmt, time::SystemTime, thread};", &["std::thread", "std::time::SystemTime"]),
    (
        &["broker"],
        "use std::time; fn f() { time::Instant::now() }",
        &["std::time", "std::time::Instant::now"],
    ),
    (&["broker"], "use std as s; fn f() { s::io::stdin() }", &["std", "std::io::stdin"]),
    (&["broker"], "fn f(m: &std::sync::Mutex<u8>) -> ::core::time::Duration {}", &["std::sync::Mutex"]),
    (&["broker"], "use core::net::IpAddr;", &["core::net::IpAddr"]),
    (&["broker"], "use std::collections::{BTreeMap, HashMap};", &["std::collections::HashMap"]),
    (&["broker"], "fn f() { println!(\"{}\", 1) }", &["println!"]),
    // Words in comments, strings, and after a dot are no paths; lifetimes are no characters.
    (
        &["broker"],
        "// std::net\n/* /* std::io */ std::fs */ fn f<'a>(x: &'a str) { \"std::net\"; r#\"\"std::io\"#; 'x'; '\\''; x.std::<u8>() }",
        &[],
    ),
    (&["broker"], "fn f<'a>() { let q = '\"'; std::fs::read(q); let p = '\"'; }", &["std::fs::read"]),
    // Tests may do more; what comes after them may not.
    (
        &["broker"],
        "#[cfg(test)] mod tests { use std::net::TcpStream; fn f() { {} } } use std::io;",
        &["std::io"],
    ),
    (&["broker"], "#[cfg(test)] use std::net::TcpStream; use std::io;", &["std::io"]),
    (&["broker"], "mod inner { use super::super::sys::cpus; }", &["crate::sys::cpus"]),
    // The control plane sees the handle and the plain types, not the loop or the state machine.
    (&["control", "cores"], "use crate::shard::Fleet; use crate::broker::report::Command;", &[]),
    (&["control", "lifecycle"], "use crate::shard::{self, StartError}; fn f() { shard::start(c) }", &[]),
    (&["control"], "use crate::shard; fn f() { shard::mesh::send() }", &["crate::shard::mesh::send"]),
    (&["control"], "use crate::broker::Broker;", &["crate::broker::Broker"]),
    (&["control"], "use crate::engine::epoll::Epoll;", &["crate::engine::epoll::Epoll"]),
    // The data plane has no runtime.
    (&["shard"], "use tokio::sync::mpsc;", &["tokio::sync::mpsc"]),
    (&["shard"], "use crate::control::admin;", &["crate::control::admin"]),
    (&["sys"], "use crate::config::ServeConfig;", &["crate::config::ServeConfig"]),
    // The engines do not see each other.
    (&["engine", "epoll"], "use super::uring::Ring;", &["crate::engine::uring::Ring"]),
    (&["engine", "uring"], "use crate::engine::{Op, epoll};", &["crate::engine::epoll"]),
    (&["engine", "uring", "ring"], "use super::super::Op;", &[]),
    // Unsafe is for few, and its name is not its lint.
    (&["shard"], "fn f() { unsafe { g() } }", &["unsafe"]),
    (&["sys"], "fn f() { unsafe { g() } }", &[]),
    (&["cli"], "#![deny(unsafe_code)]", &[]),
    // A new part needs a rule.
    (&["cluster"], "", &["src/cluster has no rule yet: add it to MAY_IMPORT"]),
];

#[test]
fn the_rules_find_what_breaks_them() {
    for (module, text, expected) in CASES {
        assert_eq!(&violations(module, text), expected, "{module:?}: {text}");
    }
}
