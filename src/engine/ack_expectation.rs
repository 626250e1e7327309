//! Decides whether an engine expects an acknowledgement within the send, and how it finds out about one. Both
//! engines use these rules.
//!
//! A peer on the same host receives the segments within the send and acknowledges them there. The engine expects
//! each peer to acknowledge as it did last time, and a new peer as any peer did last. If it expects an immediate
//! acknowledgement, it checks after the send; the kernel announces the others.

use super::ack_checks::FIRST_CHECK;
use std::time::Duration;

/// Whether a connection's last acknowledgement had arrived when the send returned; `None` before the first.
pub type LastAck = Option<bool>;

/// What an engine expects from its peers.
pub struct AckExpectation {
    /// The last acknowledgement of any peer had arrived when the send returned.
    immediate: bool,
}

/// How the engine finds out about an acknowledgement after a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterSend {
    /// The peer has acknowledged.
    Acked,
    /// The engine checks for it after this time.
    CheckAfter(Duration),
    /// The kernel announces it.
    Announced,
}

impl AckExpectation {
    /// `immediate` is what the engine expects before the first acknowledgement.
    pub fn new(immediate: bool) -> AckExpectation {
        AckExpectation { immediate }
    }

    /// Whether the engine expects the peer's next acknowledgement to have arrived when the send returns.
    pub fn is_immediate(&self, last: LastAck) -> bool {
        last.unwrap_or(self.immediate)
    }

    /// Records whether an acknowledgement had arrived when the send returned.
    pub fn record(&mut self, last: &mut LastAck, immediate: bool) {
        self.immediate = immediate;
        *last = Some(immediate);
    }

    /// Decides what follows the send of a whole response, and records `is_acked`. If `checked`, the engine did not
    /// ask for an announcement.
    pub fn after_send(&mut self, last: &mut LastAck, is_acked: bool, checked: bool) -> AfterSend {
        let was_expected = self.is_immediate(*last);
        self.record(last, is_acked);
        match (is_acked, checked) {
            (true, _) => AfterSend::Acked,
            // The peer was probably just reading.
            (false, true) if was_expected => AfterSend::CheckAfter(Duration::ZERO),
            (false, true) => AfterSend::CheckAfter(FIRST_CHECK),
            (false, false) => AfterSend::Announced,
        }
    }

    /// Decides what follows the send of part of a response; a short send says nothing about the peer.
    pub fn after_short_send(checked: bool) -> AfterSend {
        if checked { AfterSend::CheckAfter(FIRST_CHECK) } else { AfterSend::Announced }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_expected_to_repeat_its_last_acknowledgement() {
        let mut expectation = AckExpectation::new(false);
        let (mut near, mut far) = (None, None);
        assert_eq!(expectation.after_send(&mut near, true, false), AfterSend::Acked);
        assert!(expectation.is_immediate(near) && expectation.is_immediate(None));
        assert_eq!(expectation.after_send(&mut far, false, true), AfterSend::CheckAfter(Duration::ZERO));
        assert!(expectation.is_immediate(near) && !expectation.is_immediate(far));
        assert!(!expectation.is_immediate(None));
        assert_eq!(expectation.after_send(&mut far, false, true), AfterSend::CheckAfter(FIRST_CHECK));
        assert_eq!(expectation.after_send(&mut far, false, false), AfterSend::Announced);
        assert_eq!(AckExpectation::after_short_send(true), AfterSend::CheckAfter(FIRST_CHECK));
        assert_eq!(AckExpectation::after_short_send(false), AfterSend::Announced);
    }
}
