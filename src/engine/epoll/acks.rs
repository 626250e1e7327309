//! Acknowledgements: announced in the error queue, or looked for in the send queue.

use super::{Epoll, socket};
use crate::broker::io::ConnId;
use crate::engine::fact::Fact;
use crate::sys::tcp::{self, ErrorQueue};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

impl Epoll {
    /// An acknowledgement or a failure? True if the connection is done for.
    pub(super) fn look_at_errors(&mut self, conn: ConnId) -> bool {
        let Some(socket) = socket(&mut self.sockets, conn) else { return true };
        if let Some(stamps) = &mut socket.stamps {
            while let Some(expected) = stamps.awaited {
                match tcp::next_error(socket.stream.as_fd()) {
                    Ok(ErrorQueue::Acked(index)) if index == expected => {
                        stamps.awaited = None;
                        socket.in_question = false;
                        self.facts.push_back(Fact::Acked(conn));
                        return false;
                    }
                    Ok(ErrorQueue::Acked(_) | ErrorQueue::Other) => {}
                    Ok(ErrorQueue::Empty) | Err(_) => break,
                }
            }
        }
        match socket.stream.take_error() {
            Ok(None) => false,
            Ok(Some(_)) | Err(_) => {
                self.facts.push_back(Fact::Reset(conn));
                true
            }
        }
    }

    /// Looks for the acknowledgement of a watched response. True if there is nothing to look for any more.
    pub(super) fn is_over(&mut self, conn: ConnId) -> bool {
        let Some(socket) = socket(&mut self.sockets, conn).filter(|socket| socket.watched) else {
            return true;
        };
        if socket.outgoing.is_some() {
            return false;
        }
        match tcp::is_acknowledged(socket.stream.as_fd()) {
            Ok(false) => return false,
            Ok(true) => self.facts.push_back(Fact::Acked(conn)),
            Err(_) => self.facts.push_back(Fact::Reset(conn)),
        }
        socket.watched = false;
        socket.in_question = false;
        true
    }

    /// Looks at what is due. Answers how long the next look has time.
    pub(super) fn look(&mut self) -> Option<Duration> {
        if self.watch.is_empty() {
            return None;
        }
        let now = Instant::now();
        let mut watch = std::mem::take(&mut self.watch);
        watch.look(now, |conn| self.is_over(conn));
        self.watch = watch;
        self.watch.next_due().map(|due| due.saturating_duration_since(now))
    }
}
