// Code that the tests share: the broker's process, runner processes on a chosen runtime, the supervisor's dispatch, a
// poller on a raw socket, and waiting with a timeout.
import { spawn } from "node:child_process";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const here = dirname(fileURLToPath(import.meta.url));
const packaged = (...path) => join(here, "node_modules", ...path);

/** The runtimes that Trigger.dev's runner images use, as npm packages. */
export const RUNTIMES = {
  node20: packaged("node20", "bin", "node"),
  node22: packaged("node22", "bin", "node"),
  node24: packaged("node24", "bin", "node"),
  bun: packaged("@oven", "bun-linux-x64", "bin", "bun"),
};

export const settings = {
  runtime: process.env.COMPAT_RUNTIME ?? "node22",
  confirm: process.env.COMPAT_CONFIRM ?? "read",
  engine: process.env.PILOTLIGHT_ENGINE,
  bin: resolve(here, process.env.PILOTLIGHT_BIN ?? "../../target/release/pilotlight"),
};

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
export const now = () => performance.timeOrigin + performance.now();

/** Polls `probe` until it returns something truthy, and gives up with its last value in the message. */
export async function until(what, probe, { timeout = 10_000, every = 20 } = {}) {
  const end = Date.now() + timeout;
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (Date.now() > end) throw new Error(`timed out after ${timeout} ms waiting until ${what}`);
    await sleep(every);
  }
}

// No process outlives its test. Each child leads its own process group, so that its children end with it.
const children = new Set();
function reap(child) {
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // The group is empty.
  }
}
process.on("exit", () => children.forEach(reap));
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));
export function start(command, args, options) {
  const child = spawn(command, args, { ...options, detached: true });
  children.add(child);
  child.ended = new Promise((done) => {
    child.once("error", (error) => done({ error }));
    // Its children may keep its output open, and then there is no "close".
    child.once("exit", () => reap(child));
    child.once("close", (code, signal) => done({ code, signal }));
  });
  child.ended.then(() => children.delete(child));
  return child;
}

/** Stops a process. The signal reaches one thread first: another could still read what comes in meanwhile. */
export async function freeze(pid) {
  process.kill(pid, "SIGSTOP");
  const state = (thread) => /\) (\S)/.exec(readFileSync(`/proc/${pid}/task/${thread}/stat`, "utf8"))[1];
  await until("every thread has stopped", () => readdirSync(`/proc/${pid}/task`).every((thread) => state(thread) === "T"));
}

/** `command` inside a network namespace, when there is one. */
const inside = (netns, command, args) => (netns ? ["ip", ["netns", "exec", netns, command, ...args]] : [command, args]);

// ---------------------------------------------------------------- broker

/** The address that one line of the broker's log announces, in either log format. */
function listening(line) {
  let fields;
  try {
    const entry = JSON.parse(line);
    fields = { ...entry, ...entry.fields };
  } catch {
    const text = /\blistening\b.*?\bside=(\S+).*?\baddr=(\S+)/.exec(line);
    if (text) fields = { side: text[1], addr: text[2] };
  }
  return fields?.side && fields.addr ? [fields.side, fields.addr] : undefined;
}

export async function startBroker({
  flags = [],
  listen = "127.0.0.1:0",
  confirm = settings.confirm,
  netns,
  env = {},
} = {}) {
  if (!existsSync(settings.bin)) throw new Error(`there is no broker at ${settings.bin}: build it, or set PILOTLIGHT_BIN`);
  const args = ["serve", "--listen", listen, "--admin-listen", "127.0.0.1:0", "--log-format", "json"];
  if (confirm) args.push("--confirm", confirm);
  if (settings.engine) args.push("--engine", settings.engine);
  const child = start(...inside(netns, settings.bin, [...args, ...flags]), {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, ...env },
  });
  const log = [];
  const sides = {};
  let serves = false;
  createInterface({ input: child.stderr }).on("line", (line) => {
    log.push(line);
    if (log.length > 2_000) log.shift();
    const found = listening(line);
    if (found) sides[found[0]] ??= found[1];
    serves ||= line.includes('"message":"serving"');
  });
  let ended;
  child.ended.then((how) => (ended = how));
  await until("the broker serves", () => {
    if (ended) throw new Error(`the broker ended immediately (${JSON.stringify(ended)}):\n${log.join("\n")}`);
    return serves && sides.runner && sides.admin && (sides.dispatch || !flags.includes("--dispatch-listen"));
  });
  const broker = {
    pid: child.pid,
    log,
    addr: sides.runner,
    url: `http://${sides.runner}`,
    dispatchUrl: `http://${sides.dispatch ?? sides.runner}`,
    adminUrl: `http://${sides.admin}`,
    ended: child.ended,
    /** The state now: the broker may answer with a report that is up to 100 ms old, hence the pause. */
    async status() {
      await sleep(110);
      const answer = await fetch(`${broker.adminUrl}/status`, { signal: AbortSignal.timeout(5_000) });
      return await answer.json();
    },
    /** Until exactly `count` polls wait; more is a leak, fewer a lost one. */
    waiting: (count) => {
      let seen;
      return until(`${count} polls wait`, async () => (seen = (await broker.status()).waiting) === count).catch((error) => {
        throw new Error(`${error.message} (${seen} do)`);
      });
    },
    dispatch: (message, options) => dispatch(broker.dispatchUrl, message, options),
    async stop(signal = "SIGTERM") {
      child.kill(signal);
      const killer = setTimeout(() => child.kill("SIGKILL"), 10_000);
      const how = await child.ended;
      clearTimeout(killer);
      return how;
    },
  };
  return broker;
}

/** What the supervisor does: true, false, or an exception for what it takes as a failure. */
export async function dispatch(url, message, { raw } = {}) {
  const body = raw === undefined ? JSON.stringify({ dequeuedMessage: message }) : `{"dequeuedMessage":${raw}}`;
  const answer = await fetch(`${url}/warm-start`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body,
    signal: AbortSignal.timeout(20_000),
  });
  const text = await answer.text();
  if (answer.status !== 200) throw new Error(`dispatch answered ${answer.status}: ${text}`);
  const { didWarmStart } = JSON.parse(text);
  if (typeof didWarmStart !== "boolean") throw new Error(`dispatch answered ${text}`);
  return didWarmStart;
}

// ---------------------------------------------------------------- runners

/** One process on `runtime` that hosts runners. */
export class RunnerProcess {
  /** @type {{ev: string, id: string, run: string}[]} every event but pongs */
  events = [];
  /** How often a client in it has re-polled after its own timeout, and retried after an error. */
  timeouts = 0;
  errors = [];
  #serial = 0;
  #pongs = new Map();
  #listeners = new Set();

  static async start(broker, { runtime = settings.runtime, netns, url, env = {} } = {}) {
    const self = new RunnerProcess();
    const bin = RUNTIMES[runtime];
    if (!bin || !existsSync(bin)) throw new Error(`runtime ${runtime} is not installed`);
    self.child = start(...inside(netns, bin, [join(here, "runner-worker.mjs")]), {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, BUN_CONFIG_MAX_HTTP_REQUESTS: undefined, ...env },
    });
    self.ended = self.child.ended;
    self.child.stdin.on("error", () => {});
    self.stderr = "";
    const logged = (line) => {
      if (line.includes("Long poll request timed out")) self.timeouts += 1;
      else if (line.includes("Error during fetch")) self.errors.push(line);
    };
    createInterface({ input: self.child.stderr }).on("line", (line) => {
      self.stderr = (self.stderr + line + "\n").slice(-4_000);
      logged(line);
    });
    const ready = new Promise((done) => {
      createInterface({ input: self.child.stdout }).on("line", (line) => {
        if (!line.startsWith("@")) return logged(line);
        const event = JSON.parse(line.slice(1));
        if (event.ev === "ready") {
          self.pid = event.pid;
          self.version = event.version;
          done();
        } else if (event.ev === "pong") {
          self.#pongs.get(event.n)?.(event.late);
        } else {
          self.events.push(event);
          for (const listener of self.#listeners) listener(event);
        }
      });
    });
    await Promise.race([
      ready,
      self.ended.then((how) => {
        throw new Error(`the ${runtime} runner process ended immediately (${JSON.stringify(how)}):\n${self.stderr}`);
      }),
    ]);
    self.send({ op: "target", url: url ?? broker.url });
    return self;
  }

  send(...commands) {
    this.child.stdin.write(`${JSON.stringify(commands)}\n`);
  }

  /** Starts a runner and returns its id. Options: see runner-worker.mjs. */
  runner(key, options = {}) {
    const id = `r${this.#serial++}`;
    this.send({ op: "start", runner: { id, key, connect: true, ...options } });
    return id;
  }

  onEvent(listener) {
    this.#listeners.add(listener);
  }

  /** The first event that fits, past or to come. */
  async event(what, fits, options) {
    return await until(`a runner says: ${what}`, () => this.events.find(fits), options);
  }
  gotRun(message, options) {
    return this.event(`got ${message.run.friendlyId}`, (e) => e.ev === "run" && e.run === message.run.friendlyId, options);
  }
  runsOf(message) {
    return this.events.filter((e) => e.ev === "run" && e.run === message.run.friendlyId).length;
  }

  /**
   * Waits until all events that the process has written are read. Returns the longest delay of its event loop in
   * milliseconds since the last call.
   */
  async settle() {
    const n = this.#serial++;
    const late = await new Promise((done) => {
      this.#pongs.set(n, done);
      this.ended.then(() => done(0));
      this.send({ op: "ping", n });
    });
    this.#pongs.delete(n);
    return late;
  }

  /** Ends every runner in it, politely, and the process. */
  async stop() {
    this.send({ op: "stop" });
    this.child.stdin.end();
    const killer = setTimeout(() => this.child.kill("SIGKILL"), 5_000);
    await this.ended;
    clearTimeout(killer);
  }

  async kill() {
    process.kill(this.pid, "SIGKILL");
    await this.ended;
  }
}

/** A poll on a bare socket: for what the bytes are, not what a client makes of them. */
export class RawPoll {
  #chunks = [];
  constructor(broker, key, { headers = {}, path = "/warm-start" } = {}) {
    const [host, port] = broker.addr.split(":");
    this.socket = connect({ host, port: Number(port), allowHalfOpen: true });
    this.socket.on("error", (error) => (this.error = error));
    this.socket.on("data", (chunk) => this.#chunks.push(chunk));
    this.socket.on("end", () => (this.ended = true));
    const all = {
      Host: broker.addr,
      "x-trigger-workload-controller-id": "controller_raw",
      "x-trigger-deployment-id": key.token ?? key.deployment,
      "x-trigger-deployment-version": key.version,
      "x-trigger-machine-cpu": String(key.cpu),
      "x-trigger-machine-memory": String(key.memory),
      "x-trigger-worker-instance-name": "worker-raw",
      ...headers,
    };
    this.socket.write(`GET ${path} HTTP/1.1\r\n${Object.entries(all).map(([k, v]) => `${k}: ${v}\r\n`).join("")}\r\n`);
  }

  /** The whole response, once it is there; then the socket is closed as a client would after reading it. */
  async response({ timeout = 5_000 } = {}) {
    return await until(
      "a raw poll is answered",
      () => {
        if (this.error) throw this.error;
        const bytes = Buffer.concat(this.#chunks);
        const split = bytes.indexOf("\r\n\r\n");
        if (split < 0) {
          if (this.ended) throw new Error("the raw poll was closed without an answer");
          return undefined;
        }
        const [status, ...lines] = bytes.subarray(0, split).toString("latin1").split("\r\n");
        const headers = Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()]));
        const length = Number(headers["content-length"]);
        const body = bytes.subarray(split + 4);
        if (!(body.length >= length)) return undefined;
        this.close();
        return { status: Number(status.split(" ")[1]), headers, body };
      },
      { timeout, every: 2 },
    );
  }

  close() {
    this.socket.end();
    this.socket.once("end", () => this.socket.destroy());
    setTimeout(() => this.socket.destroy(), 1_000).unref();
  }
}

/** Runs `jobs` thunks, at most `width` at a time. */
export async function pool(width, count, job) {
  let next = 0;
  await Promise.all(
    Array.from({ length: Math.min(width, count) }, async () => {
      while (next < count) await job(next++);
    }),
  );
}
