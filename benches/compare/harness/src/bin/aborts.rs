//! Aborts polls: connects, polls, waits and closes, like a runner whose poll times out.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use clap::Parser;
use harness::message::Poll;
use harness::socket;

const FIRST_SOURCE: u8 = 1;
const SOURCES: usize = 8;
/// The most polls at the same time, below the descriptor limit. The tool waits for a server that is slower.
const OPEN_MAX: usize = 10_000;

#[derive(Parser)]
#[command(about = "Opens polls and aborts them, at a rate")]
struct Args {
    /// The server.
    #[arg(long)]
    target: SocketAddrV4,
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// Aborts per second, at most.
    #[arg(long, default_value_t = 20_000)]
    rate: u32,
    /// How long a poll is held.
    #[arg(long, default_value_t = 20)]
    held_ms: u64,
    /// Stop after this time.
    #[arg(long, default_value_t = 60)]
    secs_max: u64,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    socket::raise_descriptor_limit();
    let mut poll = Poll::default();
    let mut open = VecDeque::new();
    let (mut opened, mut aborted) = (0u64, 0u64);
    let started = Instant::now();
    while aborted < args.count && started.elapsed() < Duration::from_secs(args.secs_max) {
        let due = (started.elapsed().as_secs_f64() * f64::from(args.rate)) as u64;
        while opened < due && open.len() < OPEN_MAX && aborted + (open.len() as u64) < args.count {
            let stream =
                socket::connect(socket::source(FIRST_SOURCE, opened as usize, SOURCES), args.target)?;
            let sent = socket::send(&stream, poll.request(0)).unwrap_or(false);
            open.push_back((Instant::now() + Duration::from_millis(args.held_ms), stream, sent));
            opened += 1;
        }
        while open.front().is_some_and(|(until, ..)| *until <= Instant::now()) {
            let (_, stream, sent) = open.pop_front().expect("the front");
            // A connection that was late sends its poll now and closes after it.
            let counted = sent || socket::send(&stream, poll.request(0)).unwrap_or(false);
            aborted += u64::from(counted);
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    println!("{{\"aborted\":{aborted},\"seconds\":{:.3}}}", started.elapsed().as_secs_f64());
    Ok(())
}
