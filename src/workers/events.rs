//! From the workers to whoever watches: one bounded queue that no worker waits for and that wakes
//! nobody. What does not fit is dropped and counted.

use crate::broker::event::Event;
use crate::broker::time::Time;
use crossbeam_channel::{Receiver, Sender, bounded};

/// Events under way; the reader looks several times a second.
const EVENTS_MAX: usize = 8_192;

/// An event, and where and when it happened.
#[derive(Debug)]
pub struct Observed {
    /// Index of the core.
    pub worker: usize,
    /// In the workers' time: the turn in which it happened.
    pub at: Time,
    /// What happened.
    pub event: Event,
}

/// One core's end of the queue.
pub struct EventSink {
    index: usize,
    queue: Sender<Observed>,
    dropped: u64,
}

/// The queue's two ends: one sink per core, and the reader's.
pub fn queue(workers: usize) -> (Vec<EventSink>, Receiver<Observed>) {
    let (sender, receiver) = bounded(EVENTS_MAX);
    let sink = |index| EventSink { index, queue: sender.clone(), dropped: 0 };
    ((0..workers).map(sink).collect(), receiver)
}

impl EventSink {
    /// Tells of `event`, or drops it.
    pub fn tell(&mut self, at: Time, event: Event) {
        let observed = Observed { worker: self.index, at, event };
        self.dropped += u64::from(self.queue.try_send(observed).is_err());
    }

    /// Events dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let (mut sinks, reader) = queue(2);
        let event = || Event::Rejected { status: 400, error: String::new() };
        for index in 0..EVENTS_MAX as u64 + 3 {
            sinks[1].tell(Time(index), event());
        }
        assert_eq!((sinks[0].dropped(), sinks[1].dropped()), (0, 3));
        let first = reader.try_recv().unwrap();
        assert_eq!((first.worker, first.at), (1, Time(0)));
        sinks[0].tell(Time(9), event());
        assert_eq!((sinks[0].dropped(), reader.len()), (0, EVENTS_MAX));
    }
}
