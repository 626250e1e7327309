//! One core with one connection, whose responses are written immediately.

use crate::broker::Broker;
use crate::broker::contract::Side;
use crate::broker::http::CONTINUE;
use crate::broker::io::{ConnId, Input, Output};
use crate::broker::report::Counters;
use crate::broker::settings::Confirm;
use crate::broker::time::Time;
use crate::shared::{OneThread, settings};

/// The responses that the peer sees, and the counters.
#[derive(Debug, PartialEq)]
pub struct Answered {
    /// All responses except 100 (Continue), which depends on how the request arrives.
    pub responses: Vec<u8>,
    /// The connection ended. Whether by a close or a half-close depends on how the request arrives.
    pub ended: bool,
    /// Polls held.
    pub waiting: usize,
    pub counters: Counters,
}

/// Sends `request` in these pieces.
pub fn answer<'r>(pieces: impl Iterator<Item = &'r [u8]>) -> Answered {
    let conn = ConnId { slot: 0, generation: 1 };
    let now = Time::from_ms(1_000);
    let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
    let mut broker = Broker::new(0, settings(Confirm::Write), hasher, OneThread::default());
    broker.handle(now, Input::Accepted { conn, side: Side::Runner });
    let mut answered =
        Answered { responses: Vec::new(), ended: false, waiting: 0, counters: Counters::default() };
    for bytes in pieces {
        broker.handle(now, Input::Received { conn, bytes });
        while let Some(output) = broker.poll_output() {
            match output {
                Output::Send { payload, .. } => {
                    if payload.bytes() != CONTINUE {
                        answered.responses.extend_from_slice(payload.bytes());
                    }
                    broker.handle(now, Input::Sent { conn });
                }
                Output::Close { .. } | Output::Abort { .. } | Output::HalfClose { .. } => {
                    answered.ended = true
                }
                _ => {}
            }
        }
    }
    answered.waiting = broker.waiting();
    // A lingering connection is not closed yet, and a closed one counts fewer bytes.
    answered.counters = Counters { bytes_in: 0, closed: 0, ..broker.counters().clone() };
    answered
}
