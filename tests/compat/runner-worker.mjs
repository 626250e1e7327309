// A runner process for the tests: any number of unmodified WarmStartClients, on the runtime that started this file.
// The driver sends commands as lines of JSON on stdin. Events are lines on stdout with a leading "@", because the
// client logs to stdout too. The process ends when its stdin ends.
import { createInterface } from "node:readline";
import { WarmStartClient } from "@trigger.dev/core/v3/workers";

const say = (event) => process.stdout.write(`@${JSON.stringify(event)}\n`);
const now = () => performance.timeOrigin + performance.now();
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const between = ([low, high]) => low + Math.random() * (high - low);

let apiUrl;
const runners = new Map();

// The run controller's use of its client, without executing runs: connect, poll, report, poll again.
async function live(runner) {
  const { id, key, client } = runner;
  try {
    do {
      let { connectionTimeoutMs, keepaliveMs } = runner;
      if (runner.connect) {
        const answer = await client.connect();
        if (!answer.success) {
          say({ ev: "unreachable", id, error: answer.error });
          return;
        }
        connectionTimeoutMs ??= answer.data.connectionTimeoutMs;
        keepaliveMs ??= answer.data.keepaliveMs;
        if (runner.reportConnect) say({ ev: "connected", id, data: answer.data });
      }
      if (runner.stopping) break;
      const message = await client.warmStart({
        workerInstanceName: runner.instance ?? "worker-1",
        connectionTimeoutMs,
        keepaliveMs,
      });
      if (!message) {
        say({ ev: "none", id });
        if (!runner.persist) return;
        continue;
      }
      // The four fields of the key, as received.
      const got = [
        message.deployment.friendlyId,
        message.backgroundWorker.version,
        message.run.machine.cpu,
        message.run.machine.memory,
      ].join("|");
      say({
        ev: "run",
        id,
        at: now(),
        run: message.run.friendlyId,
        wrongKey: got === [key.deployment, key.version, key.cpu, key.memory].join("|") ? undefined : got,
        message: runner.full ? message : undefined,
      });
      if (runner.pauseMs) await sleep(between(runner.pauseMs));
    } while (runner.repeat && !runner.stopping);
  } catch (error) {
    // The real controller exits here.
    say({ ev: "crash", id, error: String(error?.stack ?? error) });
  } finally {
    runners.delete(id);
    say({ ev: "gone", id });
  }
}

const abort = (runner) => {
  // abort() of a client that is not polling only logs a warning.
  if (runner?.client.abortController) runner.client.abort();
};

const commands = {
  target({ url }) {
    apiUrl = new URL(url);
  },
  start({ runner }) {
    const { key } = runner;
    runner.client = new WarmStartClient({
      apiUrl,
      controllerId: runner.controllerId ?? `controller_${process.pid}_${runner.id}`,
      deploymentId: key.token ?? key.deployment,
      deploymentVersion: key.version,
      machineCpu: String(key.cpu),
      machineMemory: String(key.memory),
    });
    runners.set(runner.id, runner);
    live(runner);
  },
  abort({ id }) {
    abort(runners.get(id));
  },
  abortAt({ id, at }) {
    setTimeout(() => abort(runners.get(id)), Math.max(0, at - now()));
  },
  stop({ id }) {
    for (const runner of id === undefined ? [...runners.values()] : [runners.get(id)]) {
      if (!runner) continue;
      runner.stopping = true;
      abort(runner);
    }
  },
  block({ ms }) {
    const end = now() + ms;
    while (now() < end);
  },
  ping({ n }) {
    say({ ev: "pong", n, late });
    late = 0;
  },
};

// The longest delay of this process's event loop since the last ping. A client's abort may be late by as much.
const TICK_MS = 10;
let late = 0;
let ticked = now();
setInterval(() => {
  const tick = now();
  late = Math.max(late, tick - ticked - TICK_MS);
  ticked = tick;
}, TICK_MS);

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  for (const command of [].concat(JSON.parse(line))) commands[command.op](command);
});
lines.on("close", () => process.exit(0));
say({ ev: "ready", pid: process.pid, version: process.versions.bun ? `bun ${process.versions.bun}` : `node ${process.versions.node}` });
