//! Answers, in words.

use super::Ask;
use crate::api::{Cordon, Cordons, ExplainQuery, Explanation};
use crate::broker::report::Selector;
use std::fmt::Write;

/// Where to ask for an explanation.
pub fn explain_path(asked: &ExplainQuery) -> String {
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
    let mut words = match &answer.reason {
        None => format!("warm: {} ready", runners(answer.ready)),
        Some(reason) => format!("cold: {}", reason.replace('_', " ")),
    };
    let _ = write!(words, "\n{}", printable(&answer.advice));
    if !answer.keys.is_empty() {
        let _ = write!(words, "\n\nwaiting  ending  drained     warm   cold  version, machine");
    }
    for key in answer.keys.iter().take(KEYS_SHOWN) {
        let _ = write!(
            words,
            "\n{:7}  {:6}  {:7}  {:7}  {:7}  {}, {} vCPU, {} GB",
            key.waiting,
            key.parked,
            key.cordoned,
            key.warm,
            key.cold,
            printable(&key.version),
            key.cpu,
            key.memory
        );
    }
    if answer.keys_total > KEYS_SHOWN {
        let _ = write!(words, "\n… and {} more", answer.keys_total - KEYS_SHOWN);
    }
    if !answer.cordons.is_empty() {
        let cordons: Vec<String> = answer.cordons.iter().map(|target| printable(&line(target))).collect();
        let _ = write!(words, "\n\ndrained: {}", cordons.join(", "));
    }
    words + &silent(&answer.stalled_workers, "what it holds is not in this")
}

fn runners(count: u64) -> String {
    if count == 1 { "1 runner is".to_owned() } else { format!("{count} runners are") }
}

fn printable(text: &str) -> String {
    text.chars().map(|next| if next.is_control() && next != '\n' { '\u{fffd}' } else { next }).collect()
}

fn silent(workers: &[usize], what_follows: &str) -> String {
    if workers.is_empty() {
        return String::new();
    }
    let workers: Vec<String> = workers.iter().map(usize::to_string).collect();
    format!("\nno answer from worker {}: {what_follows}", workers.join(", "))
}

/// What became of cordons.
pub fn drained(ask: &Ask, answer: &Cordons) -> String {
    let words = match ask {
        Ask::Explain(_) => String::new(),
        Ask::List if answer.cordons.is_empty() => "nothing is drained".to_owned(),
        Ask::List => {
            let lines: Vec<String> = answer.cordons.iter().map(line).collect();
            lines.join("\n")
        }
        Ask::Begin(selector) => format!(
            "drained {}: its held polls are closed, and no run goes to its runners until this is lifted (--lift) or the broker restarts",
            name(selector)
        ),
        Ask::Lift(selector) => format!("lifted the drain of {}", name(selector)),
    };
    words + &silent(&answer.stalled_workers, "it follows when it wakes up")
}

fn name(selector: &Selector) -> String {
    match selector {
        Selector::Node(name) => format!("node {name}"),
        Selector::Deployment(id) => format!("deployment {id}"),
    }
}

fn line(target: &Cordon) -> String {
    match target {
        Cordon { node: Some(name), .. } => format!("node {name}"),
        Cordon { deployment, .. } => {
            format!("deployment {}", deployment.as_deref().unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_survives_the_way() {
        let asked = ExplainQuery {
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
            outcome: "cold".to_owned(),
            reason: Some("other_version".to_owned()),
            advice: "runners wait for \u{1b}[31m1".to_owned(),
            stalled_workers: vec![3],
            ..Explanation::default()
        };
        assert_eq!(
            explained(&answer),
            "cold: other version\nrunners wait for \u{fffd}[31m1\nno answer from worker 3: what it holds is not in this"
        );
    }
}
