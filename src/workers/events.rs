//! Events for the control thread: one bounded queue. No worker waits for it, and it wakes no thread. A worker
//! drops and counts events that do not fit.

use crate::broker::event::Event;
use crate::broker::time::Time;
use crossbeam_channel::{Receiver, Sender, bounded};

/// The most events in the queue; the control thread empties it several times per second.
const EVENTS_MAX: usize = 8_192;

/// An event, with its worker and its time.
#[derive(Debug)]
pub struct Observed {
    pub worker: usize,
    /// The time of the worker's turn, by the workers' clock.
    pub at: Time,
    pub event: Event,
}

/// One worker's end of the queue.
pub struct EventSink {
    worker: usize,
    queue: Sender<Observed>,
    dropped: u64,
}

/// The queue's two ends: one sink per worker, and the control thread's receiver.
pub fn queue(workers: usize) -> (Vec<EventSink>, Receiver<Observed>) {
    let (sender, receiver) = bounded(EVENTS_MAX);
    let sink = |worker| EventSink { worker, queue: sender.clone(), dropped: 0 };
    ((0..workers).map(sink).collect(), receiver)
}

impl EventSink {
    /// Queues `event`, or drops and counts it.
    pub fn emit(&mut self, at: Time, event: Event) {
        let observed = Observed { worker: self.worker, at, event };
        self.dropped += u64::from(self.queue.try_send(observed).is_err());
    }

    /// The number of events that this sink has dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_beyond_the_queue_are_dropped_and_counted() {
        let (mut sinks, reader) = queue(2);
        let event = || Event::Rejected { status: 400, error: String::new() };
        for at in 0..EVENTS_MAX as u64 + 3 {
            sinks[1].emit(Time(at), event());
        }
        assert_eq!((sinks[0].dropped(), sinks[1].dropped()), (0, 3));
        let first = reader.try_recv().unwrap();
        assert_eq!((first.worker, first.at), (1, Time(0)));
        sinks[0].emit(Time(9), event());
        assert_eq!((sinks[0].dropped(), reader.len()), (0, EVENTS_MAX));
    }
}
