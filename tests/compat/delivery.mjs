#!/usr/bin/env node
// Dispatches at random moments to real clients whose polls keep timing out. Compares the supervisor's answers with the
// runs that the runners' processes received.
//
//   node tests/compat/delivery.mjs --write       everything, and writes docs/guarantees.md: about ten minutes
//   node tests/compat/delivery.mjs [--dispatches 2000] [--race 2500] [--runtime node22,bun] [--confirm read,ack]
//                                  [--keys distinct,shared,shared-oldest] [--delay 0,10] [--rate 250]
//                                  [--nice=-10] [--guard auto] [--minutes 30]
//
// --dispatches counts per cell of the table, --race per line of the second table; --minutes is the time limit. Exits 1
// and writes nothing if a run was lost (answered true, never received), a ghost (answered false, received) or received
// twice. "late" is the longest delay of a runner's event loop. If it exceeds the guard (a tenth of the clients'
// timeout), the machine is too busy for `ack` and for Bun. The cells with a delay need root, for a link between two
// network namespaces. Needs the binary (`cargo build --release`) and the packages that run.mjs installs.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setPriority } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { RUNTIMES, RunnerProcess, here, now, sleep, start, startBroker, until } from "./harness.mjs";
import { makeKey, makeMessage } from "./messages.mjs";
import { Table, provenance, writeBetweenMarks } from "./report.mjs";

const POLL_TIMEOUT_MS = 400;
// Few runners per process, so that its event loop does not delay an abort.
const PROCESSES = 5;
const RUNNERS = 100;
const IN_FLIGHT_MAX = 200;
/** Fewer show little. */
const DISPATCHES_MIN = 20_000;

const { values: options } = parseArgs({
  options: {
    dispatches: { type: "string", default: "2000" },
    race: { type: "string", default: "2500" },
    runtime: { type: "string", default: "node22,bun" },
    confirm: { type: "string", default: "read,ack" },
    keys: { type: "string", default: "distinct,shared,shared-oldest" },
    delay: { type: "string", default: "0,10" },
    nice: { type: "string", default: "0" },
    guard: { type: "string", default: "auto" },
    rate: { type: "string", default: "250" },
    minutes: { type: "string", default: "30" },
    write: { type: "boolean", default: false },
    // Used when this script calls itself inside a namespace.
    cell: { type: "string" },
  },
});

// ---------------------------------------------------------------- one cell, inside its namespace

function quantile(values, q) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted.length ? Number(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))].toFixed(2)) : null;
}

/** Compares the answers with the runs received. */
class Ledger {
  answers = new Map();
  received = new Map();
  latencies = [];
  failures = [];

  watch(process) {
    process.onEvent((event) => {
      if (event.ev === "run") this.received.set(event.run, (this.received.get(event.run) ?? 0) + 1);
      if (event.ev === "crash") this.failures.push(event.error);
    });
  }

  async dispatch(broker, key) {
    const message = makeMessage(key);
    const began = now();
    try {
      const warm = await broker.dispatch(message);
      this.answers.set(message.run.friendlyId, warm);
      if (warm) this.latencies.push(now() - began);
    } catch (error) {
      // The supervisor treats it as false.
      this.answers.set(message.run.friendlyId, false);
      this.failures.push(String(error));
    }
  }

  summary() {
    const count = (fits) => [...this.answers].filter(fits).length;
    return {
      dispatches: this.answers.size,
      true: count(([, warm]) => warm),
      lost: count(([run, warm]) => warm && !this.received.has(run)),
      ghost: count(([run, warm]) => !warm && this.received.has(run)),
      twice: [...this.received.values()].filter((times) => times > 1).length,
      p50: quantile(this.latencies, 0.5),
      p99: quantile(this.latencies, 0.99),
      failures: this.failures.length,
      failure: this.failures[0],
    };
  }
}

/** Sums of the broker's counters over its workers. */
async function counters(broker) {
  const { workers } = await broker.status();
  const sum = (name) => workers.reduce((total, worker) => total + worker[name], 0);
  return { polls: sum("polls"), reset: sum("attempts_reset"), silent: sum("attempts_ack_timeout"), unread: sum("attempts_read_timeout") };
}

async function moments({ runtime, confirm, keys: sharing, delay, guard, dispatches, rate, listen, runnersNetns }) {
  const broker = await startBroker({
    listen,
    confirm,
    flags: [
      "--connection-timeout", `${POLL_TIMEOUT_MS}ms`, "--keepalive", "5m", "--shutdown-time", "200ms", "--guard", guard,
      "--match-order", sharing === "shared-oldest" ? "oldest" : "newest",
      // The namespace contains only this test's processes.
      ...(runnersNetns ? ["--insecure-shared-dispatch"] : []),
    ],
  });
  const ledger = new Ledger();
  const keys = Array.from({ length: sharing === "distinct" ? RUNNERS : RUNNERS / 20 }, () => makeKey());
  const fleet = await Promise.all(Array.from({ length: PROCESSES }, () => RunnerProcess.start(broker, { runtime, netns: runnersNetns })));
  for (const process of fleet) ledger.watch(process);
  for (let i = 0; i < RUNNERS; i++) fleet[i % PROCESSES].runner(keys[i % keys.length], { repeat: true, persist: true, pauseMs: [0, 30] });
  await sleep(1_000 + 10 * delay);
  await Promise.all(fleet.map((process) => process.settle()));
  for (const process of fleet) process.timeouts = 0;

  const flying = new Set();
  let next = now();
  for (let i = 0; i < dispatches; i++) {
    // Poisson, so that every moment is equally likely.
    next = Math.max(next - (Math.log(1 - Math.random()) / rate) * 1_000, now() - 50);
    if (next > now()) await sleep(next - now());
    while (flying.size >= IN_FLIGHT_MAX) await Promise.race(flying);
    const one = ledger.dispatch(broker, keys[Math.floor(Math.random() * keys.length)]).then(() => flying.delete(one));
    flying.add(one);
  }
  await Promise.all(flying);
  // Runs that are on their way must arrive now.
  await sleep(1_500 + 4 * delay);
  const late = Math.max(...(await Promise.all(fleet.map((process) => process.settle()))));
  const result = { late, ...ledger.summary(), ...(await counters(broker)), timeouts: fleet.reduce((sum, process) => sum + process.timeouts, 0) };
  await Promise.all(fleet.map((process) => process.stop()));
  await broker.stop();
  return result;
}

/** The hardest race: the client aborts within 3 ms of the response, and no guard keeps such polls out. */
async function race({ runtime, confirm, dispatches, listen }) {
  const broker = await startBroker({
    listen,
    confirm,
    flags: ["--connection-timeout", "30s", "--guard", "0s", "--shutdown-time", "200ms"],
  });
  const ledger = new Ledger();
  const process = await RunnerProcess.start(broker, { runtime });
  ledger.watch(process);
  const gone = new Map();
  process.onEvent((event) => event.ev === "gone" && gone.get(event.id)?.());
  let left = dispatches;
  // The time from dispatch to runner, so that run and abort also meet on a slow machine.
  let lead = 1;
  await Promise.all(
    Array.from({ length: 12 }, async () => {
      while (left-- > 0) {
        const key = makeKey();
        const id = process.runner(key, { connect: false, connectionTimeoutMs: 30_000, keepaliveMs: 300_000 });
        const ended = new Promise((done) => gone.set(id, done));
        const abortAt = now() + 50;
        process.send({ op: "abortAt", id, at: abortAt });
        await sleep(abortAt - lead - now() + (Math.random() * 6 - 3));
        const began = now();
        await ledger.dispatch(broker, key);
        lead += ((now() - began) / 2 - lead) / 50;
        await ended;
        gone.delete(id);
      }
    }),
  );
  await process.settle();
  await sleep(500);
  const result = { ...ledger.summary(), received: ledger.received.size };
  await process.stop();
  await broker.stop();
  return result;
}

// ---------------------------------------------------------------- the table

const ip = (...args) => execFileSync("ip", args, { stdio: ["ignore", "pipe", "pipe"], timeout: 10_000 });

let undoing = () => {};
process.once("exit", () => undoing());

/** Two namespaces with a delayed link between them; `end` removes everything. */
async function delayedLink(delay) {
  const tag = `plc${process.pid}`;
  const sides = [
    { netns: `${tag}b`, device: `${tag}b`.slice(-15), address: "10.231.7.1", peer: "10.231.7.2" },
    { netns: `${tag}r`, device: `${tag}r`.slice(-15), address: "10.231.7.2", peer: "10.231.7.1" },
  ];
  let link;
  const end = () => {
    // Without its devices the process would spin.
    link?.kill("SIGKILL");
    for (const { netns } of sides) spawnSync("ip", ["netns", "del", netns], { stdio: "ignore", timeout: 10_000 });
  };
  undoing = end;
  for (const { netns } of sides) ip("netns", "add", netns);
  link = start(RUNTIMES.bun, [join(here, "link.mjs"), sides[0].device, sides[1].device, String(delay)], { stdio: ["ignore", "pipe", "inherit"] });
  let up = false;
  link.stdout.on("data", () => (up = true));
  await until("the link is up", () => up);
  for (const { netns, device, address, peer } of sides) {
    ip("link", "set", device, "netns", netns);
    ip("-n", netns, "link", "set", "lo", "up");
    ip("-n", netns, "addr", "add", address, "peer", peer, "dev", device);
    ip("-n", netns, "link", "set", device, "txqueuelen", "20000", "up");
  }
  return { broker: sides[0], runners: sides[1], end };
}

const began = Date.now();
const deadline = began + Number(options.minutes) * 60_000;

async function inCell(cell, netns) {
  const args = [fileURLToPath(import.meta.url), "--cell", JSON.stringify(cell)];
  const [command, all] = netns ? ["ip", ["netns", "exec", netns, RUNTIMES.node22, ...args]] : [RUNTIMES.node22, args];
  const child = start(command, all, { stdio: ["ignore", "pipe", "inherit"] });
  setPriority(child.pid, Number(options.nice));
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text) => (output += text));
  const usual = 120_000 + (cell.dispatches / Math.min(cell.rate ?? 50, 50)) * 1_000;
  const killer = setTimeout(() => child.kill("SIGTERM"), Math.max(1, Math.min(usual, deadline - Date.now())));
  const how = await child.ended;
  clearTimeout(killer);
  if (Date.now() >= deadline) throw new Error(`not finished within ${options.minutes} minutes (--minutes): ${JSON.stringify(cell)}`);
  if (how.code !== 0) throw new Error(`the cell ended with ${JSON.stringify(how)}: ${JSON.stringify(cell)}`);
  return JSON.parse(output);
}

/** --write is for the whole of it. */
function assertWhole(cells, perCell) {
  const all = (name, wanted) => wanted.every((value) => cells.some((cell) => cell[name] === value));
  const whole =
    all("confirm", ["read", "ack"]) && all("runtime", ["node22", "bun"]) && all("delay", [0, 10]) &&
    all("keys", ["distinct", "shared", "shared-oldest"]) && options.guard === "auto" && Number(options.race) >= 1_000;
  if (!whole || cells.length * perCell < DISPATCHES_MIN) {
    throw new Error(`--write is for every mode, runtime, delay and kind of keys, and ${DISPATCHES_MIN} dispatches at least: omit the other options`);
  }
}

async function main() {
  const list = (text) => text.split(",").filter(Boolean);
  const numbers = { dispatches: Number(options.dispatches), rate: Number(options.rate), guard: options.guard };
  for (const runtime of list(options.runtime)) {
    if (!existsSync(RUNTIMES[runtime] ?? "")) throw new Error(`runtime ${runtime} is not installed: node run.mjs installs it`);
  }
  const cells = [];
  for (const delay of list(options.delay).map(Number))
    for (const confirm of list(options.confirm))
      for (const runtime of list(options.runtime)) for (const keys of list(options.keys)) cells.push({ delay, confirm, runtime, keys, ...numbers });

  if (options.write) assertWhole(cells, numbers.dispatches);
  const page = [];
  let bad = 0;
  let total = 0;
  if (numbers.dispatches > 0) {
    console.log(`Clients with a timeout of ${POLL_TIMEOUT_MS} ms, ${RUNNERS} runners, ${options.rate} dispatches a second:\n`);
    const table = new Table([["delay", 5], ["confirm", 7], ["runtime", 7], ["keys", 13], ["dispatches", 10], ["true", 6], ["lost", 4], ["ghost", 5], ["twice", 5], ["re-polls", 8], ["reset", 6], ["silent", 6], ["unread", 6], ["p50 ms", 7], ["p99 ms", 7], ["late ms", 7], ["failed", 6]]);
    for (const cell of cells) {
      const link = cell.delay > 0 ? await delayedLink(cell.delay) : undefined;
      let result;
      try {
        result = await inCell(
          { ...cell, listen: `${link?.broker.address ?? "127.0.0.1"}:0`, runnersNetns: link?.runners.netns },
          link?.broker.netns,
        );
      } finally {
        link?.end();
      }
      total += result.dispatches;
      bad += result.lost + result.ghost + result.twice + result.failures;
      table.row([`${cell.delay} ms`, cell.confirm, cell.runtime, cell.keys, result.dispatches, result.true, result.lost, result.ghost, result.twice, result.timeouts, result.reset, result.silent, result.unread, result.p50, result.p99, result.late.toFixed(0), result.failures]);
      if (result.failure) console.error(`  first failure: ${result.failure}`);
      // A cell with few warm dispatches shows nothing.
      if (result.true < result.dispatches / 4) {
        console.error(`  only ${result.true} of ${result.dispatches} were answered true`);
        bad += 1;
      }
    }
    page.push(
      `${total} dispatches at random moments, ${options.rate} a second, to ${RUNNERS} real clients whose polls end after ${POLL_TIMEOUT_MS} ms: over a key for every client, or over ${RUNNERS / 20} keys, the newest poll or the oldest first; without delay, or over a link with this delay each way. *lost*: answered true, not received. *ghost*: answered false, received. *reset*, *silent* and *unread* are the reasons for released attempts; *late* is the longest delay of a client's event loop.`,
      table.markdown(),
    );
  }

  if (Number(options.race) > 0) {
    console.log("\nThe client aborts within 3 ms of the response, no guard (shown, not checked):\n");
    const table = new Table([["confirm", 7], ["runtime", 7], ["polls", 6], ["received", 8], ["true", 6], ["lost", 4], ["ghost", 5], ["twice", 5]]);
    for (const confirm of new Set([...list(options.confirm), "write"])) {
      for (const runtime of list(options.runtime)) {
        const result = await inCell({ race: true, confirm, runtime, dispatches: Number(options.race), listen: "127.0.0.1:0" });
        table.row([confirm, runtime, result.dispatches, result.received, result.true, result.lost, result.ghost, result.twice]);
      }
    }
    page.push("And the hardest race, which the guard is there to keep out: every client gives up within 3 ms of the response, no guard.", table.markdown());
  }

  if (options.write && bad === 0) {
    writeBetweenMarks("guarantees.md", "delivery.mjs", [provenance(began, list(options.runtime)), ...page].join("\n\n"));
  }
  console.log(`\n${total} dispatches: ${bad === 0 ? "none lost, none delivered behind the supervisor's back, none twice" : `${bad} WRONG`}`);
  process.exit(bad === 0 ? 0 : 1);
}

if (options.cell) {
  const cell = JSON.parse(options.cell);
  console.log(JSON.stringify(await (cell.race ? race : moments)(cell)));
  process.exit(0);
} else {
  await main();
}
