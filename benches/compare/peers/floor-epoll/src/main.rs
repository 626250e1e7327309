//! The floor: a bare epoll loop that holds every GET and answers it on a POST with fixed bytes.
//!
//! It parses and matches nothing: the first byte identifies a request, and the newest held GET takes the next
//! POST. The remaining cost is that of two reads and two writes on this kernel.
//!
//! - `--close`: the poll's answer says `Connection: close` and its connection is closed after it.
//! - `--read`: the poll's answer says `Connection: close` and ends with a FIN, and the POST is answered when its
//!   client has closed too.
//! - `--rest US`: it pauses that long after each turn, so that work gathers.
//! - `--confirm`: the POST is answered when the poll's kernel has acknowledged the answer.
//! - `--echo`: the poll is answered with the POST's body, so that the load can identify a run by its id.
//! - `--scatter`: takes a pseudo-random poll, not the newest, to measure the cost of cold sockets.

mod socket;

use socket::{Epoll, Stamped};
use std::time::Duration;

const TRUE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n{\"didWarmStart\":true}";
const FALSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 22\r\n\r\n{\"didWarmStart\":false}";
const DISPATCH: &[u8] = include_bytes!("../../../load/dispatch.json");
const MSS: u32 = 536;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Conn {
    /// Its index among the held polls.
    held_at: u32,
    /// The dispatch that waits for this poll's acknowledgement.
    parked: u32,
    /// Bytes sent since the connection was opened, as the kernel numbers its acknowledgements.
    sent_bytes: u32,
    mss: u32,
}

const FRESH: Conn = Conn { held_at: NONE, parked: NONE, sent_bytes: 0, mss: MSS };

struct Options {
    port: u16,
    close: bool,
    read: bool,
    confirm: bool,
    echo: bool,
    scatter: bool,
    rest: Duration,
}

struct Floor {
    options: Options,
    epoll: Epoll,
    conns: Vec<Conn>,
    held: Vec<u32>,
    answer: Vec<u8>,
    head_bytes: usize,
    scratch: Vec<u8>,
    random: u64,
}

fn main() {
    let mut options = Options {
        port: 0,
        close: false,
        read: false,
        confirm: false,
        echo: false,
        scatter: false,
        rest: Duration::ZERO,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--port" => options.port = args.next().and_then(|v| v.parse().ok()).expect("--port PORT"),
            "--close" => options.close = true,
            "--read" => options.read = true,
            "--confirm" => options.confirm = true,
            "--echo" => options.echo = true,
            "--scatter" => options.scatter = true,
            "--rest" => {
                let us = args.next().and_then(|v| v.parse().ok()).expect("--rest US");
                options.rest = Duration::from_micros(us);
            }
            other => panic!("unknown flag {other}"),
        }
    }
    Floor::new(options).run();
}

/// The poll's answer. The length is of fixed width, so that `--echo` can fill it in.
fn answer_head(body_bytes: usize, close: bool) -> Vec<u8> {
    let connection = if close { "Connection: close\r\n" } else { "" };
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{connection}Content-Length: {body_bytes:08}\r\n\r\n"
    )
    .into_bytes()
}

impl Floor {
    fn new(options: Options) -> Self {
        // The message itself, as a broker would cut it out of the dispatch.
        let message = &DISPATCH[br#"{"dequeuedMessage":"#.len()..DISPATCH.len() - 1];
        let mut answer = answer_head(message.len(), options.close || options.read);
        let head_bytes = answer.len();
        answer.extend_from_slice(message);
        Floor {
            options,
            epoll: Epoll::new(),
            conns: Vec::new(),
            held: Vec::new(),
            answer,
            head_bytes,
            scratch: vec![0; 64 * 1024],
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    fn run(mut self) {
        let listener = socket::listen(self.options.port, self.options.confirm.then_some(MSS));
        self.epoll.add(listener, socket::READ);
        let mut events = Epoll::events();
        loop {
            if !self.options.rest.is_zero() {
                std::thread::sleep(self.options.rest);
            }
            let ready = self.epoll.wait(&mut events);
            for event in &events[..ready] {
                let (fd, is_readable, is_error) = socket::event(event);
                if fd == listener {
                    self.accept(listener);
                    continue;
                }
                if is_error && self.options.confirm {
                    self.confirmed(fd);
                }
                if is_readable {
                    self.readable(fd);
                }
            }
        }
    }

    fn accept(&mut self, listener: i32) {
        while let Some(fd) = socket::accept(listener) {
            if self.conns.len() <= fd as usize {
                self.conns.resize(fd as usize + 1024, FRESH);
            }
            self.conns[fd as usize] = FRESH;
            if self.options.confirm {
                self.conns[fd as usize].mss = socket::stamp_acknowledgements(fd);
            }
            self.epoll.add(fd, socket::READ | socket::EDGE);
        }
    }

    fn readable(&mut self, fd: i32) {
        match socket::read(fd, &mut self.scratch) {
            None => {}
            Some(0) => self.close(fd),
            Some(_) if self.scratch[0] == b'G' => self.hold(fd),
            Some(read) if self.scratch[0] == b'P' => self.dispatch(fd, read),
            Some(_) => {}
        }
    }

    fn hold(&mut self, fd: i32) {
        self.conns[fd as usize].held_at = self.held.len() as u32;
        self.held.push(fd as u32);
    }

    fn release(&mut self, fd: u32) {
        let at = std::mem::replace(&mut self.conns[fd as usize].held_at, NONE);
        if at != NONE {
            self.held.swap_remove(at as usize);
            if let Some(&moved) = self.held.get(at as usize) {
                self.conns[moved as usize].held_at = at;
            }
        }
    }

    fn next_poll(&mut self) -> Option<u32> {
        let fd = if self.options.scatter && !self.held.is_empty() {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            self.held[(self.random % self.held.len() as u64) as usize]
        } else {
            *self.held.last()?
        };
        self.release(fd);
        Some(fd)
    }

    fn dispatch(&mut self, fd: i32, read: usize) {
        let Some(poll) = self.next_poll() else {
            socket::send(fd, FALSE);
            return;
        };
        if self.options.echo {
            self.echo(read);
        }
        if self.options.confirm {
            self.conns[poll as usize].parked = fd as u32;
            self.send_stamped(poll);
            return;
        }
        if self.options.read {
            socket::send_last(poll as i32, &self.answer);
            self.conns[poll as usize].parked = fd as u32;
            return;
        }
        socket::send(poll as i32, &self.answer);
        if self.options.close {
            socket::close(poll as i32);
        }
        socket::send(fd, TRUE);
    }

    fn echo(&mut self, read: usize) {
        let request = &self.scratch[..read];
        let body_at = request.windows(4).position(|w| w == b"\r\n\r\n").map_or(read, |at| at + 4);
        self.answer.truncate(self.head_bytes);
        self.answer.extend_from_slice(&request[body_at..]);
        let head = answer_head(read - body_at, self.options.close || self.options.read);
        self.answer[..self.head_bytes].copy_from_slice(&head);
    }

    /// An odd number of segments would leave the last one to the peer's delayed acknowledgement: the head
    /// then goes as a segment of its own.
    fn send_stamped(&mut self, poll: u32) {
        let conn = &mut self.conns[poll as usize];
        let mut stamped = &self.answer[..];
        if (stamped.len() as u32).div_ceil(conn.mss) % 2 == 1 {
            socket::send(poll as i32, &stamped[..self.head_bytes]);
            stamped = &stamped[self.head_bytes..];
        }
        conn.sent_bytes = conn.sent_bytes.wrapping_add(self.answer.len() as u32);
        socket::send_stamped(poll as i32, stamped);
    }

    fn confirmed(&mut self, fd: i32) {
        let conn = &mut self.conns[fd as usize];
        if conn.parked == NONE {
            return;
        }
        match socket::read_stamp(fd) {
            Stamped::None => {}
            Stamped::Acknowledged(last_byte) if last_byte == conn.sent_bytes.wrapping_sub(1) => {
                let dispatch = std::mem::replace(&mut conn.parked, NONE);
                socket::send(dispatch as i32, TRUE);
                if self.options.close {
                    socket::close(fd);
                }
            }
            Stamped::Acknowledged(_) => {}
            Stamped::Broken => self.close(fd),
        }
    }

    fn close(&mut self, fd: i32) {
        self.release(fd as u32);
        let parked = std::mem::replace(&mut self.conns[fd as usize].parked, NONE);
        if parked != NONE {
            socket::send(parked as i32, if self.options.read { TRUE } else { FALSE });
        }
        socket::close(fd);
    }
}
