//! Holds polls: reads their number from stdin, opens them, reports it, and holds them until stdin ends.

use std::io::{self, BufRead, Write};
use std::net::SocketAddrV4;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use clap::Parser;
use harness::epoll::Epoll;
use harness::runners::Runners;
use harness::socket;

#[derive(Parser)]
#[command(about = "Holds as many polls as its input says, one number a line")]
struct Args {
    /// The server.
    #[arg(long)]
    target: SocketAddrV4,
    /// Distinct deployments among the polls.
    #[arg(long, default_value_t = 1)]
    keys: u32,
    /// Connect from 127.0.0.N and the following addresses. Other processes use other addresses.
    #[arg(long, value_name = "N", default_value_t = 1)]
    first_source: u8,
    /// Polls opened per second, at most.
    #[arg(long, default_value_t = 20_000)]
    rate: u32,
    /// Give up opening after this time.
    #[arg(long, default_value_t = 120)]
    open_secs_max: u64,
}

struct Input;

impl AsRawFd for Input {
    fn as_raw_fd(&self) -> i32 {
        0
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    socket::raise_descriptor_limit();
    let mut epoll = Epoll::new()?;
    epoll.add(&Input, u64::MAX)?;
    let mut runners = Runners::new(args.target);
    loop {
        if !serve(&mut epoll, &mut runners, Duration::from_secs(1))? {
            continue;
        }
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line)? == 0 {
            return Ok(());
        }
        let wanted = line.trim().parse().map_err(|_| io::Error::other("not a number"))?;
        open(&args, &mut epoll, &mut runners, wanted)?;
        println!(
            "{{\"held\":{},\"renewed\":{},\"refused\":{}}}",
            runners.polled(),
            runners.renewed,
            runners.refused
        );
        io::stdout().flush()?;
    }
}

fn open(args: &Args, epoll: &mut Epoll, runners: &mut Runners, wanted: usize) -> io::Result<()> {
    let started = Instant::now();
    let first = runners.len();
    let sources = wanted.div_ceil(socket::PER_SOURCE_MAX);
    while started.elapsed() < Duration::from_secs(args.open_secs_max) {
        let due = first + (started.elapsed().as_secs_f64() * f64::from(args.rate)) as usize;
        while runners.len() < wanted.min(due) {
            let index = runners.len();
            let source = socket::source(args.first_source, index, sources);
            runners.connect(source, index as u32 % args.keys)?;
            runners.start(epoll, index)?;
        }
        serve(epoll, runners, Duration::from_millis(1))?;
        if runners.polled() >= wanted {
            break;
        }
    }
    Ok(())
}

/// One turn of the loop. Returns whether stdin has input.
fn serve(epoll: &mut Epoll, runners: &mut Runners, timeout: Duration) -> io::Result<bool> {
    let ready: Vec<_> = epoll.wait(timeout).collect();
    let mut input = false;
    for ready in ready {
        if ready.token == u64::MAX {
            input = true;
        } else {
            runners.ready(epoll, ready)?;
        }
    }
    Ok(input)
}
