//! The rules of the code: which part may import which, and how files are laid out. The tables at the top are the rules.
//!
//! A part is a folder of `src`. Test code may import anything.

#[path = "architecture/imports.rs"]
mod imports;
#[path = "architecture/layout.rs"]
mod layout;
#[path = "architecture/source.rs"]
mod source;

use imports::{Crate, Imports, describe, module_of};
use source::{Kind, Reference, Source};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

/// What each part may refer to in the others: a whole part, or some modules and names of it.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("broker", &[]),
    ("sys", &[]),
    ("config", &["broker::settings", "broker::token::Secrets", "sys"]),
    ("engine", &["broker", "sys"]),
    ("workers", &["broker", "config", "engine", "sys"]),
    (
        "control",
        &[
            "api",
            "broker::counters",
            "broker::event",
            "broker::histogram",
            "broker::report",
            "broker::settings",
            "broker::token::Secrets",
            "config",
            "sys",
            "workers::Fleet",
            "workers::Observed",
            "workers::StartError",
            "workers::Started",
            "workers::start",
        ],
    ),
    ("commands", &["api", "config", "control::lifecycle", "sys"]),
];

/// Imports that still close a cycle between files of different folders: the first file imports the second.
/// Temporary: remove entries, do not add any.
const ALLOWED_CYCLES: &[(&str, &str)] = &[];

/// Imports that still close a cycle between neighbours in one folder, where a folder counts as one with its content.
/// Temporary: remove entries, do not add any.
const ALLOWED_NEIGHBOURS: &[(&str, &str)] = &[];

/// Files that still break a rule of the layout. Temporary: remove entries, do not add any.
const ALLOWED_LAYOUT: &[&str] = &[];

/// Crates that only some parts may refer to. The broker core may refer to none but [`BROKER_CRATES`].
const ONLY_IN: &[(&str, &[&str])] = &[
    ("axum", &["control"]),
    ("base64", &["broker"]),
    ("clap", &["commands", "config"]),
    ("clap_complete", &["commands"]),
    ("clap_mangen", &["commands"]),
    ("crossbeam_channel", &["workers"]),
    ("form_urlencoded", &["commands"]),
    ("futures_util", &["control"]),
    ("hdrhistogram", &["commands"]),
    ("hmac", &["broker"]),
    ("http", &["config"]),
    ("http_body_util", &["commands", "control"]),
    ("hyper", &["commands", "control"]),
    ("hyper_util", &["commands", "control"]),
    ("io_uring", &["engine"]),
    ("ipnet", &["config", "workers"]),
    ("libc", &["engine", "sys"]),
    ("mio", &["commands", "engine"]),
    ("nix", &["engine", "sys"]),
    ("opentelemetry", &["control"]),
    ("opentelemetry_http", &["control"]),
    ("opentelemetry_otlp", &["control"]),
    ("opentelemetry_proto", &["control"]),
    ("opentelemetry_sdk", &["control"]),
    ("prometheus_client", &["control"]),
    ("prost", &["control"]),
    ("ratatui", &["commands"]),
    ("rustix", &["sys"]),
    ("rustls", &["commands", "engine", "sys"]),
    ("rustls_native_certs", &["commands"]),
    ("sd_notify", &["sys"]),
    ("seccompiler", &["sys"]),
    ("serde", &["api", "commands", "control"]),
    ("serde_json", &["commands", "control"]),
    ("sha2", &["broker"]),
    ("socket2", &["engine", "sys"]),
    ("subtle", &["control"]),
    ("tokio", &["commands", "control"]),
    ("tokio_rustls", &["commands"]),
    ("tracing_subscriber", &["control"]),
    ("zeroize", &["config", "sys"]),
];

/// The crates that the pure core is made of.
const BROKER_CRATES: &[&str] =
    &["ahash", "base64", "hashbrown", "hmac", "httparse", "itoa", "memchr", "sha2", "slab", "wide"];

/// What the pure core may not use of the standard library: I/O, clocks, threads, randomness.
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
/// Exceptions from [`NOT_IN_BROKER`].
const STILL_IN_BROKER: &[&str] = &["std::sync::Arc", "std::time::Duration"];
const NO_MACROS_IN_BROKER: &[&str] = &["dbg", "eprint", "eprintln", "print", "println"];

/// The two engines, which do not refer to each other.
const ENGINES: [&str; 2] = ["epoll", "uring"];

/// Where `unsafe` may be written.
const UNSAFE_IN: &[&str] = &["engine", "sys"];

#[test]
fn files_follow_the_rules() {
    let files = &CRATE.files;
    assert!(files.len() > 20, "only {} files were found", files.len());
    let mut broken = Vec::new();
    for (file, source) in files {
        let module = module_of(file);
        let module: Vec<&str> = module.iter().map(String::as_str).collect();
        let found = violations(&module, source);
        broken.extend(found.iter().map(|(line, what)| format!("src/{file}:{line}: {what}")));
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn no_imports_form_a_cycle_between_folders() {
    let imports = CRATE.imports();
    assert!(imports.len() > 100, "only {} imports were found", imports.len());
    assert_no_cycles(&imports, ALLOWED_CYCLES, |from, to| CRATE.is_between_folders(from, to));
}

#[test]
fn no_neighbouring_folders_import_each_other() {
    let imports = CRATE.neighbours(&CRATE.imports());
    assert_no_cycles(&imports, ALLOWED_NEIGHBOURS, imports::is_folder);
}

fn assert_no_cycles(all: &Imports, allowed: &[(&str, &str)], counts: impl Fn(&str, &str) -> bool) {
    let mut imports = all.clone();
    imports.retain(|(from, to), _| !allowed.contains(&(from, to)));
    let cycles = imports::cycles(&imports, &counts);
    let described: Vec<String> = cycles.iter().map(|cycle| describe(cycle, &imports)).collect();
    assert!(cycles.is_empty(), "these imports form cycles between folders:\n{}\n", described.join("\n\n"));
    for (from, to) in allowed {
        // Without this exception, and with all the others, there is a cycle.
        let import = (from.to_string(), to.to_string());
        let mut with = imports.clone();
        with.extend(all.get(&import).map(|example| (import, example.clone())));
        let is_needed = !imports::cycles(&with, &counts).is_empty();
        assert!(is_needed, "src/{from} and src/{to} are in no cycle: remove the exception");
    }
}

#[test]
fn no_parts_import_each_other() {
    let found = parts_in_cycles(MAY_IMPORT);
    assert!(found.is_empty(), "MAY_IMPORT lets these parts import each other: {}", found.join(", "));
    let table: &[(&str, &[&str])] =
        &[("a", &["b::B", "d"]), ("b", &["c"]), ("c", &["a::A"]), ("d", &[]), ("e", &["a"])];
    // What imports a cycle is listed with it.
    assert_eq!(parts_in_cycles(table), ["a", "b", "c", "e"]);
}

/// The parts that may import each other, directly or not, and those that may import these.
fn parts_in_cycles<'a>(may_import: &[(&'a str, &[&str])]) -> Vec<&'a str> {
    let mut left = may_import.to_vec();
    // A part that may import none of the others left is in no cycle.
    while let Some(at) = left.iter().position(|(_, paths)| {
        let mut parts = paths.iter().map(|path| path.split("::").next().unwrap_or(path));
        parts.all(|part| left.iter().all(|(other, _)| *other != part))
    }) {
        left.remove(at);
    }
    left.iter().map(|(part, _)| *part).collect()
}

#[test]
fn files_follow_the_layout() {
    let found = layout::violations(&CRATE);
    let is_allowed = |file: &str| ALLOWED_LAYOUT.contains(&file);
    let broken: Vec<_> = found.iter().filter(|(file, _)| !is_allowed(file)).collect();
    let lines: Vec<String> = broken.iter().map(|(file, what)| format!("src/{file} {what}")).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
    for allowed in ALLOWED_LAYOUT {
        let needed = found.iter().any(|(file, _)| file == allowed);
        assert!(needed, "src/{allowed} keeps to the layout: remove it from ALLOWED_LAYOUT");
    }
}

/// What the module at `module` does against the rules: line and finding.
fn violations(module: &[&str], source: &Source) -> Vec<(usize, String)> {
    // The crate's root names its parts.
    let Some(part) = module.first().copied() else { return Vec::new() };
    let Some((_, may_import)) = MAY_IMPORT.iter().find(|(of, _)| *of == part) else {
        return vec![(1, format!("src/{part} has no rule yet: add it to MAY_IMPORT"))];
    };
    let mut found = Vec::new();
    if !UNSAFE_IN.contains(&part) {
        found.extend(source.unsafe_lines.iter().map(|line| (*line, "unsafe".to_owned())));
    }
    let undocumented = source.undocumented_unsafe.iter();
    found.extend(undocumented.map(|(line, what)| (*line, format!("{what} has no \"# Safety\" section"))));
    let module = module.join("::");
    let engine = ENGINES.iter().position(|engine| is_within(&module, &format!("engine::{engine}")));
    for Reference { line, path, kind, .. } in &source.references {
        let path = path.join("::");
        let allowed = match path.strip_prefix("crate::") {
            _ if *kind == Kind::Name => true,
            Some(inner) => is_within(inner, part) || may_import.iter().any(|may| leads_to(inner, may)),
            None => part_may_use(part, &path),
        };
        let crossed =
            engine.is_some_and(|own| is_within(&path, &format!("crate::engine::{}", ENGINES[1 - own])));
        if !allowed || crossed {
            found.push((*line, path));
        }
    }
    if part == "broker" {
        let printing = source.macros.iter().filter(|(_, name)| NO_MACROS_IN_BROKER.contains(&name.as_str()));
        found.extend(printing.map(|(line, name)| (*line, format!("{name}!"))));
    }
    found
}

/// `path` is `module` or something in it.
fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// `path` is within `may`, or is a parent module of it. The paths that begin with a parent module are checked too.
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
            !matches!(path.as_str(), "std" | "std::*") && (within(STILL_IN_BROKER) || !within(NOT_IN_BROKER))
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

static CRATE: LazyLock<Crate> = LazyLock::new(|| Crate::read(&files()));

/// Every source file: its path inside `src`, and its text.
fn files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    read_folder(&root().join("src"), "", &mut files);
    files.sort();
    files
}

fn read_folder(folder: &Path, prefix: &str, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        if path.is_dir() {
            read_folder(&path, &format!("{prefix}{name}/"), into);
        } else if name.ends_with(".rs") {
            into.push((format!("{prefix}{name}"), fs::read_to_string(&path).expect("UTF-8")));
        }
    }
}

/// A module, its source, and what in it breaks the rules.
const CASES: &[(&[&str], &str, &[&str])] = &[
    // The core sees nothing but itself and its own crates.
    (&["broker"], "use crate::broker::pool::Pool; use slab::Slab; use std::sync::Arc;", &[]),
    (&["broker", "pool"], "use super::timer::Wheel; use self::key::Key; mod key;", &[]),
    (&["broker", "pool"], "use super::super::workers::Fleet;", &["crate::workers::Fleet"]),
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
    (&["control", "workers"], "use crate::workers::Fleet; use crate::broker::report::Command;", &[]),
    (&["control", "lifecycle"], "use crate::workers::{self, StartError}; fn f() { workers::start(c) }", &[]),
    (&["control"], "use crate::workers; fn f() { workers::mesh::send() }", &["crate::workers::mesh::send"]),
    (&["control"], "use crate::broker::Broker;", &["crate::broker::Broker"]),
    (&["control"], "use crate::engine::epoll::Epoll;", &["crate::engine::epoll::Epoll"]),
    // The data plane has no runtime.
    (&["workers"], "use tokio::sync::mpsc;", &["tokio::sync::mpsc"]),
    (&["workers"], "use crate::control::admin;", &["crate::control::admin"]),
    (&["sys"], "use crate::config::ServeConfig;", &["crate::config::ServeConfig"]),
    // The engines do not see each other.
    (&["engine", "epoll"], "use super::uring::Ring;", &["crate::engine::uring::Ring"]),
    (&["engine", "uring"], "use crate::engine::{Op, epoll};", &["crate::engine::epoll"]),
    (&["engine", "uring", "ring"], "use super::super::Op;", &[]),
    // Macros and attributes hide nothing.
    (&["broker"], "fn f() { assert!(crate::sys::y(), \"std::net\"); }", &["crate::sys::y"]),
    (&["broker"], "fn f() { vec![Some(vec![std::fs::read(p)])]; }", &["std::fs::read"]),
    (
        &["broker"],
        "use crate::sys as s; fn f() { format!(\"{}\", s::y()) }",
        &["crate::sys", "crate::sys::y"],
    ),
    (&["broker"], "fn f() { m!(a.std::<u8>(), b!=c, 0..crate::sys::MAX) }", &["crate::sys::MAX"]),
    (
        &["broker"],
        "macro_rules! m { () => { $crate::sys::y(); println!() } }",
        &["crate::sys::y", "println!"],
    ),
    (&["broker"], "m! { use std::{fmt, io as i}; fn f() { i::stdin() } }", &["std::io", "std::io::stdin"]),
    (&["broker"], "m!(<crate::sys::T as Default>::default());", &["crate::sys::T"]),
    (&["broker"], "fn f() { log!(tracing::info!()) }", &["tracing::info"]),
    (&["broker"], "#[derive(serde::Serialize)] struct S;", &["serde::Serialize"]),
    (&["broker"], "struct S(#[serde(with = \"crate::sys::wire\")] u8);", &["crate::sys::wire"]),
    // Every kind of path counts: types, bounds, patterns, generic arguments.
    (
        &["sys"],
        "fn f<T: crate::a::A>(x: Vec<crate::b::B>) -> <T as crate::c::C>::D { match x { crate::d::D => () } }",
        &["crate::a::A", "crate::b::B", "crate::c::C::D", "crate::d::D"],
    ),
    // A name counts in its own block only.
    (
        &["broker"],
        "fn f() { use crate::sys as time; time::now() } fn g() { time::now() } mod time;",
        &["crate::sys", "crate::sys::now"],
    ),
    (&["broker"], "pub(in crate::workers) fn f() {}", &[]),
    (&["broker"], "use crate::sys::*;", &["crate::sys::*"]),
    (&["broker"], "use std::*;", &["std::*"]),
    // Few parts may use `unsafe`; the name of its lint is not the keyword.
    (&["workers"], "fn f() { unsafe { g() } }", &["unsafe"]),
    (&["sys"], "fn f() { unsafe { g() } }", &[]),
    (&["commands"], "#![deny(unsafe_code)]", &[]),
    (&["workers"], "unsafe impl Send for S {}", &["unsafe"]),
    (&["workers"], "m!({ unsafe { g() } });", &["unsafe"]),
    (&["workers"], "#[cfg(test)] mod tests { fn f() { unsafe { g() } } }", &["unsafe"]),
    (&["sys"], "/// Writes.\n///\n/// # Safety\n/// `p` is valid.\npub unsafe fn f(p: *mut u8) {}", &[]),
    (&["sys"], "/// Writes.\nunsafe fn f() {}", &["unsafe fn f has no \"# Safety\" section"]),
    (&["sys"], "impl S { unsafe fn f() {} }", &["unsafe fn f has no \"# Safety\" section"]),
    (&["sys"], "unsafe trait T {}", &["unsafe trait T has no \"# Safety\" section"]),
    // A new part needs a rule.
    (&["cluster"], "", &["src/cluster has no rule yet: add it to MAY_IMPORT"]),
];

#[test]
fn violations_are_found() {
    for (module, text, expected) in CASES {
        let found: BTreeSet<String> =
            violations(module, &Source::read(text, module)).into_iter().map(|(_, what)| what).collect();
        let expected: BTreeSet<String> = expected.iter().map(|what| what.to_string()).collect();
        assert_eq!(found, expected, "{module:?}: {text}");
    }
}
