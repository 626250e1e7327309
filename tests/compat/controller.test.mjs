// The unmodified run controller, started as in a runner image: it executes an attempt of a real task in its task
// process, polls the broker for the next run, and starts that one warm.
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { makeKey, makeMessage } from "./messages.mjs";
import { MockSupervisor } from "./supervisor.mjs";
import { RUNTIMES, here, settings, start, startBroker, until } from "./harness.mjs";

const { runtime, confirm } = settings;
/** What the task returned, out of the SDK's superjson. */
const said = ({ output }) => JSON.parse(output).json;
const entryPoints = join(here, "node_modules", "trigger.dev", "dist", "esm", "entryPoints");

describe(`run controller on ${runtime}, confirm ${confirm}`, { timeout: 120_000 }, () => {
  let image;
  let broker;
  let supervisor;
  const ending = [];

  before(async () => {
    // The working directory of a runner image, with the index.json that indexing the deployment creates.
    image = await mkdtemp(join(tmpdir(), "pilotlight-controller-"));
    const entryPoint = join(here, "project", "hello.mjs");
    await writeFile(
      join(image, "index.json"),
      JSON.stringify({
        configPath: join(here, "project", "trigger.config.mjs"),
        tasks: [{ id: "hello", filePath: "hello.mjs", exportName: "hello", entryPoint }],
        workerEntryPoint: join(entryPoints, "managed-run-worker.js"),
        controllerEntryPoint: join(entryPoints, "managed-run-controller.js"),
        runtime: runtime === "bun" ? "bun-1.4" : { node20: "node", node22: "node-22", node24: "node-24" }[runtime],
      }),
    );
    broker = await startBroker({ flags: ["--connection-timeout", "20s", "--keepalive", "2m", "--shutdown-time", "200ms"] });
    supervisor = await MockSupervisor.start();
  });
  after(async () => {
    await supervisor?.stop();
    await broker?.stop();
    await rm(image, { recursive: true, force: true });
  });
  afterEach(async () => {
    for (const end of ending.splice(0)) await end();
    await broker.waiting(0);
    assert.deepEqual(supervisor.unknown, []);
  });

  function controller(key, { url = broker.url, run } = {}) {
    const child = start(RUNTIMES[runtime], [join(entryPoints, "managed-run-controller.js")], {
      cwd: image,
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        PATH: process.env.PATH,
        HOME: image,
        BUN_INSTALL_BIN: runtime === "bun" ? dirname(RUNTIMES.bun) : undefined,
        NODE_ENV: "production",
        NO_COLOR: "1",
        TRIGGER_CONTENT_HASH: "hash",
        TRIGGER_PROJECT_ID: "cmproj",
        TRIGGER_PROJECT_REF: "proj_compat",
        TRIGGER_DEPLOYMENT_ID: key.deployment,
        TRIGGER_DEPLOYMENT_VERSION: key.version,
        TRIGGER_ENV_ID: "cmenv",
        TRIGGER_MACHINE_CPU: String(key.cpu),
        TRIGGER_MACHINE_MEMORY: String(key.memory),
        TRIGGER_RUNNER_ID: "runner_1",
        TRIGGER_POD_SCHEDULED_AT_MS: String(Date.now()),
        TRIGGER_DEQUEUED_AT_MS: String(Date.now()),
        TRIGGER_RUN_ID: run,
        TRIGGER_SNAPSHOT_ID: run && run.replace("run_", "snapshot_"),
        TRIGGER_SUPERVISOR_API_PROTOCOL: "http",
        TRIGGER_SUPERVISOR_API_DOMAIN: "127.0.0.1",
        TRIGGER_SUPERVISOR_API_PORT: String(supervisor.port),
        TRIGGER_WORKER_INSTANCE_NAME: "worker-1",
        TRIGGER_WARM_START_URL: url,
        OTEL_EXPORTER_OTLP_ENDPOINT: `${supervisor.url}/otel`,
      },
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text));
    let how;
    child.ended.then((ended) => (how = ended));
    // A controller does not end its prepared task process when it exits; in production the container does.
    ending.push(() => {
      child.kill("SIGKILL");
      return child.ended;
    });
    /** `promise`, or what the controller wrote, should that fail. */
    const withOutput = async (promise) => {
      try {
        return await promise;
      } catch (error) {
        throw new Error(`${error.message}\n--- the controller's last output (${JSON.stringify(how)})\n${output.slice(-6_000)}`);
      }
    };
    const exit = () => withOutput(until("the controller exits", () => how, { timeout: 15_000 }));
    return { child, withOutput, exit };
  }

  test("executes an attempt, polls, and starts the next run warm; SIGTERM ends the poll", async () => {
    const key = makeKey({ cpu: 0.5, memory: 0.5 });
    const [cold, warm] = [makeMessage(key), makeMessage(key)];
    const runs = [cold, warm].map((message) => message.run.friendlyId);
    supervisor.expect(runs[0], { name: "cold" });
    supervisor.expect(runs[1], { name: "warm" });

    const { child, withOutput, exit } = controller(key, { run: runs[0] });
    const first = await withOutput(supervisor.started(runs[0]));
    assert.notEqual(first.body.isWarmStart, true);
    assert.equal(first.headers["x-trigger-workload-deployment-id"], key.deployment);
    const coldEnd = await withOutput(supervisor.completed(runs[0]));
    assert.equal(coldEnd.completion.ok, true, JSON.stringify(coldEnd.completion));
    const coldOutput = said(coldEnd.completion);
    assert.partialDeepStrictEqual(coldOutput, { greeting: "hello cold", run: runs[0] });
    assert.notEqual(coldOutput.pid, child.pid, "a separate task process");

    await withOutput(broker.waiting(1));
    assert.equal(await broker.dispatch(warm), true, "didWarmStart");
    const second = await withOutput(supervisor.started(runs[1]));
    assert.equal(second.body.isWarmStart, true);
    assert.equal(second.headers["x-trigger-workload-runner-id"], "runner_1");
    const warmEnd = await withOutput(supervisor.completed(runs[1]));
    assert.equal(warmEnd.completion.ok, true, JSON.stringify(warmEnd.completion));
    assert.partialDeepStrictEqual(said(warmEnd.completion), { greeting: "hello warm", run: runs[1] });
    assert.equal(supervisor.starts.filter((start) => start.run === runs[1]).length, 1);
    assert.deepEqual(
      supervisor.subscriptions.filter(({ event }) => event === "run:start").map(({ run }) => run),
      runs,
    );

    // It polls for a third run and gets SIGTERM.
    await withOutput(broker.waiting(1));
    child.kill("SIGTERM");
    assert.deepEqual(await exit(), { code: 0, signal: null });
    await broker.waiting(0);
    assert.equal(await broker.dispatch(makeMessage(key)), false);
  });

  test("exits with status 0 after three tries without a broker", async () => {
    // A server at the broker's address closes every connection.
    let tries = 0;
    const silent = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () => {
        tries += 1;
        socket.destroy();
      });
    });
    await new Promise((done) => silent.listen(0, "127.0.0.1", done));
    const url = `http://127.0.0.1:${silent.address().port}`;
    const hungUp = controller(makeKey(), { url });
    assert.deepEqual(await hungUp.exit(), { code: 0, signal: null });
    assert.equal(tries, 3);
    await new Promise((done) => silent.close(done));
    // Then there is no listener.
    const refused = controller(makeKey(), { url });
    assert.deepEqual(await refused.exit(), { code: 0, signal: null });
  });
});
