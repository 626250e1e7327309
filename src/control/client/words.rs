//! Answers, in words.

use super::Ask;
use crate::broker::report::Selector;
use crate::control::drain::{Drains, Target};
use crate::control::explain::{Asked, Explanation};
use std::fmt::Write;

/// Where to ask for an explanation.
pub fn explain_path(asked: &Asked) -> String {
    let mut path = format!("/api/explain?deployment={}", encoded(&asked.deployment));
    if let Some(version) = &asked.version {
        path += &format!("&version={}", encoded(version));
    }
    for (name, number) in [("cpu", asked.cpu), ("memory", asked.memory)] {
        if let Some(number) = number {
            path += &format!("&{name}={number}");
        }
    }
    path
}

/// RFC 3986 section 2.1: everything but the unreserved, byte by byte.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte as char),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

/// Keys that are listed.
const KEYS_SHOWN: usize = 15;

/// Why a run would be cold. Names come from clients: what a terminal would obey is not passed on.
pub fn explained(answer: &Explanation) -> String {
    let mut words = match answer.verdict.as_str() {
        "warm" => format!("warm: {} ready", runners(answer.ready)),
        reason => format!("cold: {}", reason.replace('_', " ")),
    };
    let _ = write!(words, "\n{}", printable(&answer.advice));
    if !answer.keys.is_empty() {
        let _ = write!(words, "\n\nwaiting  ending  drained     hits   misses  version, machine");
    }
    for key in answer.keys.iter().take(KEYS_SHOWN) {
        let _ = write!(
            words,
            "\n{:7}  {:6}  {:7}  {:7}  {:7}  {}, {} vCPU, {} GB",
            key.waiting,
            key.ending,
            key.cordoned,
            key.hits,
            key.misses,
            printable(&key.version),
            key.cpu,
            key.memory
        );
    }
    if answer.keys_total > KEYS_SHOWN {
        let _ = write!(words, "\n… and {} more", answer.keys_total - KEYS_SHOWN);
    }
    if !answer.drains.is_empty() {
        let drains: Vec<String> = answer.drains.iter().map(|target| printable(&line(target))).collect();
        let _ = write!(words, "\n\ndrained: {}", drains.join(", "));
    }
    words + &silent(&answer.stalled_cores, "what it holds is not in this")
}

fn runners(count: u64) -> String {
    if count == 1 { "1 runner is".to_owned() } else { format!("{count} runners are") }
}

fn printable(text: &str) -> String {
    text.chars().map(|next| if next.is_control() && next != '\n' { '\u{fffd}' } else { next }).collect()
}

fn silent(cores: &[usize], what_follows: &str) -> String {
    if cores.is_empty() {
        return String::new();
    }
    let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
    format!("\nno answer from core {}: {what_follows}", cores.join(", "))
}

/// What became of drains.
pub fn drained(ask: &Ask, answer: &Drains) -> String {
    let words = match ask {
        Ask::Explain(_) => String::new(),
        Ask::List if answer.drains.is_empty() => "nothing is drained".to_owned(),
        Ask::List => {
            let lines: Vec<String> = answer.drains.iter().map(line).collect();
            lines.join("\n")
        }
        Ask::Begin(selector) => format!(
            "drained {}: its held polls are closed, and no run goes to its runners until this is lifted (--lift) or the broker restarts",
            name(selector)
        ),
        Ask::Lift(selector) => format!("lifted the drain of {}", name(selector)),
    };
    words + &silent(&answer.stalled_cores, "it follows when it wakes up")
}

fn name(selector: &Selector) -> String {
    match selector {
        Selector::Instance(name) => format!("node {name}"),
        Selector::Deployment(id) => format!("deployment {id}"),
    }
}

fn line(target: &Target) -> String {
    match target {
        Target { instance: Some(name), .. } => format!("node {name}"),
        Target { deployment, .. } => {
            format!("deployment {}", deployment.as_deref().unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_survives_the_way() {
        let asked = Asked {
            deployment: "a&b=c %ü".to_owned(),
            version: Some("1/2".to_owned()),
            cpu: Some(0.5),
            memory: None,
        };
        assert_eq!(
            explain_path(&asked),
            "/api/explain?deployment=a%26b%3Dc%20%25%C3%BC&version=1%2F2&cpu=0.5"
        );
    }

    #[test]
    fn names_cannot_drive_the_terminal() {
        let answer = Explanation {
            verdict: "other_version".to_owned(),
            advice: "runners wait for \u{1b}[31m1".to_owned(),
            stalled_cores: vec![3],
            ..Explanation::default()
        };
        assert_eq!(
            explained(&answer),
            "cold: other version\nrunners wait for \u{fffd}[31m1\nno answer from core 3: what it holds is not in this"
        );
    }
}
