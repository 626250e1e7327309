//! Reads a dispatch's body with serde_json, as a tree. The fuzz targets compile this file too.

use super::{DispatchError, parse_dispatch};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A JSON value as serde_json sees it, with repeated names kept.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Object(Vec<(String, Node)>),
    Array(Vec<Node>),
    Text(String),
    Number(f64),
    Other,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        struct Build;
        impl<'de> Visitor<'de> for Build {
            type Value = Node;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Other)
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Other)
            }
            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Number(value as f64))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Number(value as f64))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Number(value))
            }
            fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element()? {
                    elements.push(element);
                }
                Ok(Node::Array(elements))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Node::Object(members))
            }
        }
        deserializer.deserialize_any(Build)
    }
}

impl Node {
    /// The member of that name; `None` unless there is exactly one.
    fn only(&self, name: &str) -> Option<&Node> {
        let Node::Object(members) = self else {
            return None;
        };
        let mut found = members.iter().filter(|(n, _)| n == name);
        found.next().filter(|_| found.next().is_none()).map(|(_, value)| value)
    }

    fn text(&self) -> Option<&str> {
        match self {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Node::Number(value) => Some(*value),
            _ => None,
        }
    }
}

/// Compares `parse_dispatch` with serde_json. `Err` names the difference.
pub fn agree(body: &[u8]) -> Result<(), String> {
    let ours = parse_dispatch(body);
    let text = std::str::from_utf8(body).ok();
    let is_json = text.is_some_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    if !is_json {
        return ensure(ours.is_err() || is_deep(body), "accepted a body that is not JSON");
    }
    if let Err(DispatchError::Json(_)) = ours {
        return Err(format!("{ours:?} for a body that is JSON"));
    }
    let Ok(root) = serde_json::from_slice::<Node>(body) else {
        return Ok(()); // serde_json refuses half a surrogate pair and 1e999.
    };
    let expected = (|| {
        let message = root.only("dequeuedMessage")?;
        let run = message.only("run")?;
        let machine = run.only("machine")?;
        let Node::Object(members) = run else {
            return None;
        };
        let mut run_ids = members.iter().filter(|(name, _)| name == "friendlyId");
        let run_id = run_ids.next();
        if run_ids.next().is_some() {
            return None;
        }
        Some((
            message,
            message.only("deployment")?.only("friendlyId")?.text()?,
            message.only("backgroundWorker")?.only("version")?.text()?,
            machine.only("cpu")?.number()?,
            machine.only("memory")?.number()?,
            run_id.and_then(|(_, value)| value.text()),
        ))
    })();
    match (ours, expected) {
        (Err(_), None) => Ok(()),
        (Ok(ours), Some((message, deployment, version, cpu, memory, run_id))) => {
            ensure(ours.deployment == deployment && ours.version == version, "deployment or version")?;
            ensure(ours.run_id.as_deref() == run_id, "run id")?;
            // serde_json's fast number parsing may be off in the last bit.
            let near = |a: f64, b: f64| (a - b).abs() <= b.abs() * 1e-15;
            ensure(near(ours.cpu.get(), cpu) && near(ours.memory.get(), memory), "cpu or memory")?;
            let again = serde_json::from_slice::<Node>(ours.message);
            ensure(again.is_ok_and(|again| again == *message), "message")?;
            ensure(ours.message.starts_with(b"{") && ours.message.ends_with(b"}"), "braces")
        }
        (ours, expected) => Err(format!("ours {ours:?}, serde_json {expected:?}")),
    }
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// Deeper than serde_json's limit.
fn is_deep(body: &[u8]) -> bool {
    body.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() >= 127
}
