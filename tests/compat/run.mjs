#!/usr/bin/env node
// Runs Trigger.dev's clients against the built binary, on each runtime of its runner images.
//
//   node tests/compat/run.mjs [--runtime node20,node22,node24,bun] [--confirm read,ack] [--engine epoll]
//                             [--only client,controller,tokens,tls,hold] [--jobs 3]
//
// The tests mostly wait, each for its own broker, so --jobs test files run at the same time.
// PILOTLIGHT_BIN: the binary, by default target/release/pilotlight. Needs only npm: the clients and all runtimes are
// npm packages, pinned in package-lock.json.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const here = dirname(fileURLToPath(import.meta.url));
const JOB_TIMEOUT_MS = 300_000;
const INSTALL_TIMEOUT_MS = 600_000;

const { values: options } = parseArgs({
  options: {
    runtime: { type: "string", default: "node20,node22,node24,bun" },
    confirm: { type: "string", default: "read,ack" },
    engine: { type: "string" },
    only: { type: "string", default: "client,controller,tokens,tls,hold" },
    jobs: { type: "string", default: "3" },
  },
});

function fail(message) {
  console.error(message);
  console.log("0 passed, 1 failed");
  process.exit(1);
}

function install() {
  const lock = readFileSync(join(here, "package-lock.json"), "utf8");
  const stamp = join(here, "node_modules", ".installed-lock.json");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === lock) return;
  console.log("installing the clients and the runtimes (npm ci)");
  const npm = spawnSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], {
    cwd: here,
    stdio: ["ignore", "inherit", "inherit"],
    timeout: INSTALL_TIMEOUT_MS,
  });
  if (npm.status !== 0) fail(`npm ci failed: ${npm.error?.message ?? `exit code ${npm.status}`}`);
  writeFileSync(stamp, lock);
}

install();
const { RUNTIMES, settings } = await import("./harness.mjs");

if (options.engine) process.env.PILOTLIGHT_ENGINE = options.engine;
process.env.PILOTLIGHT_BIN = process.env.PILOTLIGHT_BIN ? resolve(process.env.PILOTLIGHT_BIN) : settings.bin;
if (!existsSync(process.env.PILOTLIGHT_BIN)) {
  fail(`there is no broker at ${process.env.PILOTLIGHT_BIN}: run \`cargo build --release\`, or set PILOTLIGHT_BIN`);
}

const runtimes = options.runtime.split(",");
const expected = { node20: /^v20\./, node22: /^v22\./, node24: /^v24\./, bun: /^1\.4\./ };
for (const runtime of new Set([...runtimes, ...Object.keys(RUNTIMES)])) {
  if (!RUNTIMES[runtime]) fail(`there is no runtime ${runtime}: ${Object.keys(RUNTIMES).join(", ")}`);
  const version = spawnSync(RUNTIMES[runtime], ["--version"], { encoding: "utf8", timeout: 20_000 }).stdout?.trim();
  if (!expected[runtime].test(version ?? "")) fail(`runtime ${runtime} does not run here (it answers ${version})`);
}

/** Runs one test file with one setting, always on the packaged Node 22. */
async function job(file, { runtime, confirm }) {
  const title = [file, runtime, `confirm ${confirm}`, process.env.PILOTLIGHT_ENGINE].filter(Boolean).join(", ");
  const started = Date.now();
  const child = spawn(RUNTIMES.node22, ["--test", "--test-force-exit", "--test-reporter=spec", join(here, `${file}.test.mjs`)], {
    cwd: here,
    env: { ...process.env, COMPAT_RUNTIME: runtime ?? "", COMPAT_CONFIRM: confirm, NO_COLOR: "1", FORCE_COLOR: undefined },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text));
  // SIGTERM first: a test file then ends the processes that it started.
  const killers = [["SIGTERM", 0], ["SIGKILL", 10_000]].map(([signal, grace]) =>
    setTimeout(() => process.kill(-child.pid, signal), JOB_TIMEOUT_MS + grace),
  );
  const code = await new Promise((done) => child.once("close", done));
  killers.forEach(clearTimeout);
  const count = (what) => Number(new RegExp(`^ℹ ${what} (\\d+)$`, "m").exec(output)?.[1] ?? 0);
  const passed = count("pass");
  // A skipped test proves nothing, and a file that ended early has failed.
  let failed = count("fail") + count("cancelled") + count("skipped") + count("todo");
  if ((code !== 0 || passed === 0) && failed === 0) failed = 1;
  console.log(`\n=== ${title}: ${passed} passed, ${failed} failed, ${((Date.now() - started) / 1000).toFixed(0)} s`);
  console.log(failed ? output : output.replace(/^ℹ (tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) .*\n/gm, "").trimEnd());
  return { passed, failed };
}

const only = options.only.split(",");
const confirms = options.confirm.split(",");
const results = [];
const run = async (...args) => results.push(await job(...args));

// The long hold only waits, so it runs in parallel with the others.
const aside = only.includes("hold") ? confirms.map((confirm) => run("hold", { confirm })) : [];
const queue = confirms.flatMap((confirm) =>
  runtimes.flatMap((runtime) =>
    ["client", "controller", "tokens", "tls"].filter((file) => only.includes(file)).map((file) => [file, { runtime, confirm }]),
  ),
);
async function runQueue() {
  for (let next = queue.shift(); next; next = queue.shift()) await run(...next);
}
await Promise.all([...aside, ...Array.from({ length: Number(options.jobs) }, runQueue)]);

const sum = (what) => results.reduce((total, result) => total + result[what], 0);
console.log(`\n${sum("passed")} passed, ${sum("failed")} failed`);
process.exit(sum("failed") === 0 && sum("passed") > 0 ? 0 : 1);
