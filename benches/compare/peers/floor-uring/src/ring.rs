//! The ring of the floor: what the loop asks of io_uring, behind safe functions.

use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

const ACCEPT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
const SILENT: u64 = 3 << 32;

const BUFFERS: u16 = 4096;
const BUFFER_BYTES: usize = 4096;
const GROUP: u16 = 0;
const CONNECTIONS_MAX: u32 = 400_000;

pub enum Event {
    Accepted(u32),
    /// Bytes came; the first of them.
    Received(u32, u8),
    Ended(u32),
}

pub struct Ring {
    ring: IoUring,
    listener: types::Fd,
    entries: *mut types::BufRingEntry,
    buffers: Vec<u8>,
    tail: u16,
}

impl Ring {
    pub fn listen(port: u16) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("bind").into_raw_fd();
        // SAFETY: no pointers are passed. The standard library's own backlog is 128.
        unsafe { libc::listen(listener, 4096) };

        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(65_536)
            .build(4096)
            .expect("io_uring_setup");
        ring.submitter().register_files_sparse(files_max()).expect("register files");

        let bytes = usize::from(BUFFERS) * size_of::<types::BufRingEntry>();
        // SAFETY: a new private mapping of that many bytes.
        let entries = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert!(entries != libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        // SAFETY: the mapping is page-aligned, of `BUFFERS` entries, and lives as long as the process.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries as u64, BUFFERS, GROUP, 0) }
            .expect("register buffers");

        let mut this = Ring {
            ring,
            listener: types::Fd(listener),
            entries: entries.cast(),
            buffers: vec![0; usize::from(BUFFERS) * BUFFER_BYTES],
            tail: 0,
        };
        for id in 0..BUFFERS {
            this.give_back(id);
        }
        this.arm_accept();
        this
    }

    /// One enter: submits what is pending, waits for one completion and reads all that are there.
    pub fn wait(&mut self, events: &mut Vec<Event>) {
        match self.ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => panic!("io_uring_enter: {error}"),
        }
        loop {
            let Some(entry) = self.ring.completion().next() else { return };
            self.completed(&entry, events);
        }
    }

    fn completed(&mut self, entry: &cqueue::Entry, events: &mut Vec<Event>) {
        let conn = entry.user_data() as u32;
        let more = cqueue::more(entry.flags());
        match entry.user_data() & !u64::from(u32::MAX) {
            ACCEPT => {
                if entry.result() >= 0 {
                    let conn = entry.result() as u32;
                    self.arm_receive(conn);
                    events.push(Event::Accepted(conn));
                }
                if !more {
                    self.arm_accept();
                }
            }
            RECEIVE => {
                if let Some(id) = cqueue::buffer_select(entry.flags()) {
                    events.push(Event::Received(conn, self.buffers[usize::from(id) * BUFFER_BYTES]));
                    self.give_back(id);
                }
                if entry.result() == 0 || (entry.result() < 0 && entry.result() != -libc::ENOBUFS) {
                    events.push(Event::Ended(conn));
                } else if !more {
                    self.arm_receive(conn);
                }
            }
            _ => {}
        }
    }

    /// `last`: nothing follows on this connection. Its receive is cancelled and completes as the connection's end. (A shutdown
    /// would do it too, but the kernel hands that to a thread.)
    pub fn send(&mut self, conn: u32, bytes: &'static [u8], last: bool) {
        let send = opcode::Send::new(types::Fixed(conn), bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_NOSIGNAL)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(SILENT);
        self.push(&[send]);
        if last {
            let cancel = opcode::AsyncCancel::new(RECEIVE | u64::from(conn));
            self.push(&[cancel.build().flags(squeue::Flags::SKIP_SUCCESS).user_data(SILENT)]);
        }
    }

    pub fn close(&mut self, conn: u32) {
        let close = opcode::Close::new(types::Fixed(conn))
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(SILENT);
        self.push(&[close]);
    }

    fn arm_accept(&mut self) {
        let accept =
            opcode::AcceptMulti::new(self.listener).allocate_file_index(true).build().user_data(ACCEPT);
        self.push(&[accept]);
    }

    fn arm_receive(&mut self, conn: u32) {
        let receive =
            opcode::RecvMulti::new(types::Fixed(conn), GROUP).build().user_data(RECEIVE | u64::from(conn));
        self.push(&[receive]);
    }

    fn push(&mut self, entries: &[squeue::Entry]) {
        // SAFETY: what the entries point to is static, or the ring of buffers, which lives as long as `self`.
        while unsafe { self.ring.submission().push_multiple(entries) }.is_err() {
            self.ring.submit().expect("io_uring_enter");
        }
    }

    fn give_back(&mut self, id: u16) {
        let slot = usize::from(self.tail & (BUFFERS - 1));
        // SAFETY: `slot` is within the ring, which only this thread writes; the kernel reads an entry after the
        // tail has moved past it, which the release store orders.
        unsafe {
            let entry = &mut *self.entries.add(slot);
            entry.set_addr(self.buffers.as_ptr().add(usize::from(id) * BUFFER_BYTES) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = types::BufRingEntry::tail(self.entries).cast_mut().cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

fn files_max() -> u32 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives over the call.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    (limit.rlim_cur as u32).saturating_sub(64).min(CONNECTIONS_MAX)
}
