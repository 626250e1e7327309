//! The floor on io_uring: holds every GET and answers it on a POST with fixed bytes, one enter per turn.
//!
//! Multishot accept into direct descriptors, multishot receive from one ring of buffers, sends without a
//! separate completion. The first byte identifies a request; the newest held GET takes the next POST.
//! `--close`: the poll's answer says `Connection: close` and its connection is closed after it.

mod ring;

use ring::{Event, Ring};

const TRUE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n{\"didWarmStart\":true}";
const FALSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 22\r\n\r\n{\"didWarmStart\":false}";
const DISPATCH: &[u8] = include_bytes!("../../../load/dispatch.json");
const NONE: u32 = u32::MAX;

struct Floor {
    ring: Ring,
    close: bool,
    answer: &'static [u8],
    /// Held polls, and each connection's place among them.
    held: Vec<u32>,
    held_at: Vec<u32>,
}

fn main() {
    let (mut port, mut close) = (0, false);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--port" => port = args.next().and_then(|v| v.parse().ok()).expect("--port PORT"),
            "--close" => close = true,
            other => panic!("unknown flag {other}"),
        }
    }
    Floor { ring: Ring::listen(port), close, answer: answer(close), held: Vec::new(), held_at: Vec::new() }
        .run();
}

fn answer(close: bool) -> &'static [u8] {
    // The message itself, as a broker would cut it out of the dispatch.
    let message = &DISPATCH[br#"{"dequeuedMessage":"#.len()..DISPATCH.len() - 1];
    let connection = if close { "Connection: close\r\n" } else { "" };
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{connection}Content-Length: {:08}\r\n\r\n",
        message.len()
    )
    .into_bytes();
    answer.extend_from_slice(message);
    answer.leak()
}

impl Floor {
    fn run(mut self) {
        let mut events = Vec::with_capacity(4096);
        loop {
            self.ring.wait(&mut events);
            for event in events.drain(..) {
                match event {
                    Event::Accepted(conn) => self.accepted(conn),
                    Event::Received(conn, b'G') => self.hold(conn),
                    Event::Received(conn, b'P') => self.dispatch(conn),
                    Event::Received(..) => {}
                    Event::Ended(conn) => {
                        self.release(conn);
                        self.ring.close(conn);
                    }
                }
            }
        }
    }

    fn accepted(&mut self, conn: u32) {
        if self.held_at.len() <= conn as usize {
            self.held_at.resize(conn as usize + 1024, NONE);
        }
        self.held_at[conn as usize] = NONE;
    }

    fn hold(&mut self, conn: u32) {
        self.held_at[conn as usize] = self.held.len() as u32;
        self.held.push(conn);
    }

    fn release(&mut self, conn: u32) {
        let at = std::mem::replace(&mut self.held_at[conn as usize], NONE);
        if at != NONE {
            self.held.swap_remove(at as usize);
            if let Some(&moved) = self.held.get(at as usize) {
                self.held_at[moved as usize] = at;
            }
        }
    }

    fn dispatch(&mut self, conn: u32) {
        let Some(&poll) = self.held.last() else {
            self.ring.send(conn, FALSE, false);
            return;
        };
        self.release(poll);
        self.ring.send(poll, self.answer, self.close);
        self.ring.send(conn, TRUE, false);
    }
}
