// A link with a delay between two network namespaces: every IP packet arrives, in order, DELAY_MS later. Packets pass
// through this process, but connections end in the two kernels, as with `tc netem`, which not every kernel has. Runs
// under Bun, for its FFI.
//
//   bun link.mjs TUN_A TUN_B DELAY_MS     prints "up"; the caller moves the devices into their namespaces
import { dlopen, ptr } from "bun:ffi";

const { symbols: c } = dlopen("libc.so.6", {
  open: { args: ["cstring", "i32"], returns: "i32" },
  ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
  poll: { args: ["ptr", "u64", "i32"], returns: "i32" },
  prctl: { args: ["i32", "u64"], returns: "i32" },
  setpriority: { args: ["i32", "u32", "i32"], returns: "i32" },
  read: { args: ["i32", "ptr", "u64"], returns: "i64" },
  write: { args: ["i32", "ptr", "u64"], returns: "i64" },
});
const O_RDWR_NONBLOCK = 0o4002;
const TUNSETIFF = 0x400454ca;
const IFF_TUN_NO_PI = 0x1001;
const POLLIN = 1;
const POLLERR_HUP_NVAL = 0x38;
const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;

const [nameA, nameB, delay] = process.argv.slice(2);
const DELAY_MS = Number(delay);

c.prctl(PR_SET_PDEATHSIG, SIGKILL);
// It has little work, but at exact times.
c.setpriority(0, 0, -20);
function tun(name) {
  const fd = c.open(Buffer.from("/dev/net/tun\0"), O_RDWR_NONBLOCK);
  const request = Buffer.alloc(40);
  request.write(name);
  request.writeUInt16LE(IFF_TUN_NO_PI, 16);
  if (fd < 0 || c.ioctl(fd, TUNSETIFF, request) < 0) throw new Error(`cannot make the device ${name}: is this root, with /dev/net/tun?`);
  return fd;
}
const fds = [tun(nameA), tun(nameB)];
const pollfds = Buffer.alloc(16);
for (const [i, fd] of fds.entries()) {
  pollfds.writeInt32LE(fd, i * 8);
  pollfds.writeInt16LE(POLLIN, i * 8 + 4);
}
process.stdout.write("up\n");

const scratch = Buffer.alloc(65_536);
let queue = [];
let head = 0;
for (;;) {
  const wait = head < queue.length ? Math.max(0, Math.ceil(queue[head].due - performance.now())) : 1_000;
  c.poll(ptr(pollfds), 2, wait);
  for (const [i, fd] of fds.entries()) {
    // The namespace is gone, and poll would always return immediately.
    if (pollfds.readInt16LE(i * 8 + 6) & POLLERR_HUP_NVAL) process.exit(0);
    let length;
    while ((length = Number(c.read(fd, ptr(scratch), scratch.length))) > 0) {
      queue.push({ due: performance.now() + DELAY_MS, to: fds[1 - i], packet: Buffer.from(scratch.subarray(0, length)) });
    }
  }
  const now = performance.now();
  while (head < queue.length && queue[head].due <= now) {
    const { to, packet } = queue[head++];
    c.write(to, ptr(packet), packet.length);
  }
  if (head > 4_096) {
    queue = queue.slice(head);
    head = 0;
  }
}
