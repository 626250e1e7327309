//! What the data plane asks the kernel about one TCP connection, and the options that it sets. Linux only; see tcp(7).

mod ack_timestamps;
mod options;
mod state;

pub use ack_timestamps::{
    ErrorControl, ErrorQueue, enable_ack_timestamps, next_error, send_timestamped, timestamped_message,
};
pub use options::{TcpOptions, segment_bytes};
pub use state::{Remote, TcpExtras, TcpState, has_unread, is_acknowledged, remote, tcp_extras, tcp_state};

use std::io;

/// The result of a system call that returns -1 on failure.
fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
