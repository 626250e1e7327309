//! The poll's header fields.

use crate::broker::http::{Application, Head, Rejection, is_field};
use crate::broker::json::Number;
use crate::broker::pools::KeyRef;

/// The path of polls and dispatches.
pub(super) const WARM_START: &str = "/warm-start";

/// A request head with Trigger.dev's fields.
pub type RequestHead<'b> = Head<'b, TriggerFields<'b>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollRequest<'b> {
    /// What the runner can run. The deployment is as sent: a friendly id or a token.
    pub key: KeyRef<'b>,
    /// `x-trigger-worker-instance-name`, the node; may be empty.
    pub node: &'b str,
    /// `x-trigger-workload-controller-id`; may be empty. Never used as an identity.
    pub controller: &'b str,
}

/// Reads a poll's header fields.
///
/// # Errors
/// 400 that names the field. A field of the key is missing, repeated, empty or (cpu, memory) not a number; or
/// any field is not UTF-8.
#[inline]
pub fn read_poll<'b>(head: &RequestHead<'b>) -> Result<PollRequest<'b>, Rejection> {
    let fields = &head.application;
    Ok(PollRequest {
        key: KeyRef {
            deployment: fields.key_text(Field::Deployment)?,
            version: fields.key_text(Field::Version)?,
            cpu: fields.key_number(Field::Cpu)?,
            memory: fields.key_number(Field::Memory)?,
        },
        node: fields.text(Field::Node)?.unwrap_or_default(),
        controller: fields.text(Field::Controller)?.unwrap_or_default(),
    })
}

/// The values of Trigger.dev's header fields in one head.
#[derive(Clone, Copy, Debug, Default)]
pub struct TriggerFields<'b> {
    values: [Option<&'b [u8]>; Field::NAMES.len()],
    /// A bit for each field that occurred more than once.
    repeated: u8,
}

#[derive(Clone, Copy)]
enum Field {
    Deployment,
    Version,
    Cpu,
    Memory,
    Node,
    Controller,
}

impl Field {
    /// Indexed by `Field as usize`. No two have the same length.
    const NAMES: [&'static str; 6] = [
        "x-trigger-deployment-id",
        "x-trigger-deployment-version",
        "x-trigger-machine-cpu",
        "x-trigger-machine-memory",
        "x-trigger-worker-instance-name",
        "x-trigger-workload-controller-id",
    ];

    fn name(self) -> &'static str {
        Field::NAMES[self as usize]
    }

    #[inline]
    fn by_name(name: &[u8]) -> Option<Field> {
        // Called once per arm, so that each comparison is with a constant.
        let is = |field: Field| is_field(name, field.name()).then_some(field);
        match name.len() {
            23 => is(Field::Deployment),
            28 => is(Field::Version),
            21 => is(Field::Cpu),
            24 => is(Field::Memory),
            30 => is(Field::Node),
            32 => is(Field::Controller),
            _ => None,
        }
    }
}

impl<'b> Application<'b> for TriggerFields<'b> {
    const USUAL_TARGET: &'static str = WARM_START;

    /// Keeps the first value of a repeated field.
    #[inline]
    fn take_field(&mut self, name: &[u8], value: &'b [u8]) {
        let Some(field) = Field::by_name(name) else {
            return;
        };
        let slot = &mut self.values[field as usize];
        if slot.is_some() {
            self.repeated |= 1 << field as u8;
        } else {
            *slot = Some(value);
        }
    }
}

impl<'b> TriggerFields<'b> {
    #[inline]
    fn text(&self, field: Field) -> Result<Option<&'b str>, Rejection> {
        match self.values[field as usize].map(std::str::from_utf8) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => Err(refuse(field, "must be UTF-8")),
        }
    }

    #[inline]
    fn key_text(&self, field: Field) -> Result<&'b str, Rejection> {
        if self.repeated & 1 << field as u8 != 0 {
            return Err(refuse(field, "occurs more than once"));
        }
        match self.text(field)? {
            None => Err(refuse(field, "is missing")),
            Some("") => Err(refuse(field, "is empty")),
            Some(text) => Ok(text),
        }
    }

    #[inline]
    fn key_number(&self, field: Field) -> Result<Number, Rejection> {
        match self.values[field as usize].and_then(Number::parse) {
            Some(number) if self.repeated & 1 << field as u8 == 0 => Ok(number),
            _ => Err(self.not_a_number(field)),
        }
    }

    #[cold]
    fn not_a_number(&self, field: Field) -> Rejection {
        const SHOWN_CHARS: usize = 32;
        let text = match self.key_text(field) {
            Ok(text) => text,
            Err(rejection) => return rejection,
        };
        let shown: String = text.chars().take(SHOWN_CHARS).collect();
        let cut = if shown.len() < text.len() { "…" } else { "" };
        let fault = format!("must be a number, not `{}{cut}`", shown.escape_debug());
        refuse(field, &fault)
    }
}

#[cold]
fn refuse(field: Field, fault: &str) -> Rejection {
    Rejection::with_text(400, format!("{} {fault}", field.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::http::parse_head;
    use proptest::prelude::*;

    const FIELDS: [(&str, &str); 6] = [
        ("x-trigger-deployment-id", "deployment_abc"),
        ("x-trigger-deployment-version", "20260714.3"),
        ("x-trigger-machine-cpu", "0.50"),
        ("x-trigger-machine-memory", "1e0"),
        ("x-trigger-worker-instance-name", "node-7"),
        ("x-trigger-workload-controller-id", "controller_1"),
    ];

    fn poll_head(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut text = "GET /warm-start HTTP/1.1\r\nHost: a\r\n".to_owned();
        for (name, value) in fields {
            text += &format!("{name}: {value}\r\n");
        }
        (text + "\r\n").into_bytes()
    }

    fn refusal(fields: &[(&str, &str)]) -> String {
        let bytes = poll_head(fields);
        let rejection = read_poll(&parse_head(&bytes).unwrap()).unwrap_err();
        assert_eq!(rejection.status, 400);
        rejection.error.into_owned()
    }

    #[test]
    fn reads_fields_in_any_order_and_case() {
        let mut fields = FIELDS.map(|(name, value)| (name.to_ascii_uppercase(), value));
        fields.reverse();
        let fields = fields.each_ref().map(|(name, value)| (name.as_str(), *value));
        let bytes = poll_head(&fields);
        let head = parse_head(&bytes).unwrap();
        let poll = read_poll(&head).unwrap();
        assert_eq!(poll.key.deployment, "deployment_abc");
        assert_eq!(poll.key.version, "20260714.3");
        assert_eq!(Some(poll.key.cpu), Number::parse("0.5"));
        assert_eq!(Some(poll.key.memory), Number::parse("1"));
        assert_eq!(poll.node, "node-7");
        assert_eq!(poll.controller, "controller_1");
    }

    #[test]
    fn a_refusal_names_the_field() {
        for (index, (name, _)) in FIELDS.iter().enumerate() {
            let required = index < 4;
            let mut fields = FIELDS.to_vec();
            fields.remove(index);
            if required {
                assert_eq!(refusal(&fields), format!("{name} is missing"));
            } else {
                let bytes = poll_head(&fields);
                let head = parse_head(&bytes).unwrap();
                let poll = read_poll(&head).unwrap();
                assert_eq!([poll.node, poll.controller][index - 4], "");
            }
            if required {
                let mut fields = FIELDS.to_vec();
                fields.push(FIELDS[index]);
                assert_eq!(refusal(&fields), format!("{name} occurs more than once"));
                let mut fields = FIELDS.to_vec();
                fields[index].1 = " ";
                assert_eq!(refusal(&fields), format!("{name} is empty"));
            }
        }
    }

    #[test]
    fn cpu_and_memory_must_be_numbers() {
        for (index, value, message) in [
            (2, "half", "x-trigger-machine-cpu must be a number, not `half`"),
            (2, "0.5x", "x-trigger-machine-cpu must be a number, not `0.5x`"),
            (2, "NaN", "x-trigger-machine-cpu must be a number, not `NaN`"),
            (3, "1, 1", "x-trigger-machine-memory must be a number, not `1, 1`"),
            (3, "a\tb\"", "x-trigger-machine-memory must be a number, not `a\\tb\\\"`"),
            (3, "Infinity", "x-trigger-machine-memory must be a number, not `Infinity`"),
            (
                3,
                "ééééééééééééééééééééééééééééééééé",
                "x-trigger-machine-memory must be a number, not `éééééééééééééééééééééééééééééééé…`",
            ),
        ] {
            let mut fields = FIELDS.to_vec();
            fields[index].1 = value;
            assert_eq!(refusal(&fields), message);
        }
    }

    #[test]
    fn values_must_be_utf8() {
        for (name, value) in FIELDS {
            let mut bytes = poll_head(&FIELDS);
            let line = format!("{name}: {value}");
            let at = memchr::memmem::find(&bytes, line.as_bytes()).unwrap();
            bytes[at + name.len() + 2] = 0xff;
            let rejection = read_poll(&parse_head(&bytes).unwrap()).unwrap_err();
            assert_eq!(rejection.error, format!("{name} must be UTF-8"));
        }
    }

    #[test]
    fn fields_are_found_by_name() {
        for (index, name) in Field::NAMES.iter().enumerate() {
            assert_eq!(Field::by_name(name.as_bytes()).map(|field| field as usize), Some(index));
        }
        assert!(Field::by_name(b"x-trigger-machine-gpu").is_none());
    }

    proptest! {
        #[test]
        fn reads_every_number_that_javascript_prints(value in any::<f64>()) {
            prop_assume!(value.is_finite());
            let text = format!("{value:e}");
            let mut fields = FIELDS.to_vec();
            fields[2].1 = &text;
            let bytes = poll_head(&fields);
            let head = parse_head(&bytes).unwrap();
            prop_assert_eq!(read_poll(&head).unwrap().key.cpu.get(), value);
        }
    }
}
