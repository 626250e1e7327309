// Trigger.dev's own WarmStartClient, unmodified, on the runtime under test, against the broker's binary.
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { DequeuedMessage } from "@trigger.dev/core/v3/schemas";
import { makeKey, makeMessage, makeWaitpoint } from "./messages.mjs";
import { CountingRelay } from "./relay.mjs";
import { RawPoll, RunnerProcess, freeze, pool, settings, sleep, startBroker, until } from "./harness.mjs";

const { runtime, confirm } = settings;

/** What the client makes of a message: its own schema, then JSON again, as the worker reports it. */
const asReceived = (message) => JSON.parse(JSON.stringify(DequeuedMessage.parse(message)));

// Long timeouts: a process that gets no CPU for --read-timeout counts as frozen, and its run goes to the next runner.
// On a loaded machine that says nothing about the broker.
const PATIENT = ["--dispatch-timeout", "15s", "--read-timeout", "10s", "--ack-timeout", "5s", "--shutdown-time", "200ms"];

describe(`WarmStartClient on ${runtime}, confirm ${confirm}`, { timeout: 120_000 }, () => {
  let broker;
  let fleet;
  const ending = [];

  /** A runner process of one test, gone with it. */
  const runners = async (at = broker, options) => {
    const process = await RunnerProcess.start(at, options);
    ending.push(() => process.stop());
    return process;
  };

  before(async () => {
    broker = await startBroker({ flags: ["--connection-timeout", "20s", "--keepalive", "2m", ...PATIENT] });
    fleet = await RunnerProcess.start(broker);
  });
  after(async () => {
    await fleet?.stop();
    const how = await broker?.stop();
    assert.deepEqual(how, { code: 0, signal: null }, "the broker stops cleanly");
  });

  // No test leaves a poll or a runner.
  afterEach(async () => {
    for (const end of ending.splice(0).reverse()) await end();
    fleet.send({ op: "stop" });
    await broker.waiting(0);
    fleet.events.length = 0;
    fleet.errors.length = 0;
    fleet.timeouts = 0;
  });

  test("connect() gets the broker's timeouts", async () => {
    const id = fleet.runner(makeKey(), { reportConnect: true });
    const { data } = await fleet.event("connected", (e) => e.ev === "connected" && e.id === id);
    assert.deepEqual(data, { connectionTimeoutMs: 20_000, keepaliveMs: 120_000 });
    await broker.waiting(1);
  });

  test("a run reaches the runner with its key byte for byte, and the answer is true", async () => {
    const key = makeKey();
    fleet.runner(key, { full: true });
    await broker.waiting(1);
    const before = await broker.status();
    const message = makeMessage(key);
    assert.equal(await broker.dispatch(message), true);
    const event = await fleet.gotRun(message);
    assert.deepEqual(event.message, asReceived(message));
    const after = await broker.status();
    assert.deepEqual(
      { waiting: after.waiting, warm: after.warm - before.warm, cold: after.cold - before.cold },
      { waiting: 0, warm: 1, cold: 0 },
    );
    // The runner executes it: the next run must start cold.
    assert.equal(await broker.dispatch(makeMessage(key)), false);
    assert.equal((await broker.status()).cold - after.cold, 1);
  });

  test("a run does not go to a runner that differs in one field of the key", async () => {
    const key = makeKey({ cpu: 0.5, memory: 1 });
    fleet.runner(key);
    await broker.waiting(1);
    const others = {
      deployment: { deployment: `${key.deployment}x` },
      "deployment in case": { deployment: key.deployment.toUpperCase() },
      version: { version: "20260715.30" },
      cpu: { cpu: 0.25 },
      memory: { memory: 2 },
      "cpu and memory exchanged": { cpu: key.memory, memory: key.cpu },
    };
    for (const [field, other] of Object.entries(others)) {
      assert.equal(await broker.dispatch(makeMessage({ ...key, ...other })), false, `another ${field}`);
    }
    await broker.waiting(1);
    assert.equal(await broker.dispatch(makeMessage(key)), true, "the very same key");
  });

  test("cpu and memory compare as numbers, in any spelling", async () => {
    const key = makeKey({ cpu: 0.5, memory: 1 });
    for (const [cpu, memory] of [["0.5", "1"], ["0.50", "1.0"], ["5e-1", "1e0"], ["5E-01", "10e-1"]]) {
      fleet.runner(key);
      await broker.waiting(1);
      const message = makeMessage(key);
      const raw = JSON.stringify(message).replace('"cpu":0.5,"memory":1,', `"cpu":${cpu},"memory":${memory},`);
      assert.equal(await broker.dispatch(undefined, { raw }), true, `cpu ${cpu}, memory ${memory}`);
      await fleet.gotRun(message);
    }
  });

  test("the message arrives byte for byte", async () => {
    const key = makeKey();
    const plain = makeMessage(key);
    const escapes = Array.from({ length: 32 }, (_, i) => `\\u${i.toString(16).padStart(4, "0")}`).join("");
    // Other JSON spellings of the same message, and members that a later supervisor may add.
    const odd = JSON.stringify(makeMessage(key))
      .replace('"completedWaitpoints":[]', `"completedWaitpoints" : [ ]\r\n\t`)
      .replace('"dequeued', '"\\u0064equeued')
      .replace(/}$/, `,"later":{"a":1e400,"b":-0.0,"c":123456789012345678901234567890,"d":[[[]]],"":null},"s":"${escapes}\\"\\\\\\/\\b\\f\\n\\r\\t\\ud83d\\ude00\\ud800 \u2028\u2029\u007f\u0080\ufeff\u{1f600}é"}`);
    const spaced = ` \n\t ${JSON.stringify(makeMessage(key), null, 2)} \r\n `;
    const long = JSON.stringify(makeMessage(key, { waitpoints: [makeWaitpoint("x".repeat(300_000))] }));
    for (const raw of [JSON.stringify(plain), odd, spaced, long]) {
      const poll = new RawPoll(broker, key);
      await broker.waiting(1);
      const [answer, warm] = await Promise.all([poll.response(), broker.dispatch(undefined, { raw })]);
      assert.equal(warm, true);
      assert.equal(answer.status, 200);
      assert.match(answer.headers["content-type"], /^application\/json\b/);
      assert.equal(answer.headers["content-length"], String(answer.body.length));
      assert.equal(answer.headers["transfer-encoding"], undefined);
      assert.equal(answer.headers.connection?.toLowerCase() === "close", confirm === "read");
      assert.equal(answer.body.toString(), raw.trim());
    }
  });

  test("large messages and all escapes reach the client's parser unchanged", async () => {
    const key = makeKey();
    let every = "";
    for (let unit = 0; unit < 0x800; unit++) every += String.fromCharCode(unit);
    every += "\u2028\u2029\ufeff\ufffe\uffff\ud7ff\ue000\"\\/";
    for (let point = 0x10000; point < 0x110000; point += 0x10001) every += String.fromCodePoint(point, Math.min(point + 0xfffe, 0x10ffff));
    const outputs = {
      "300 KB": "0123456789".repeat(30_000),
      "300 KB that JSON has to escape": '\u0000"\\\n'.repeat(30_000),
      "every kind of character": every,
      "half a surrogate pair": "\ud800 and \udfff",
      "JSON in JSON in JSON": JSON.stringify(JSON.stringify({ text: every })),
    };
    for (const [what, output] of Object.entries(outputs)) {
      fleet.runner(key, { full: true });
      await broker.waiting(1);
      const message = makeMessage(key, { waitpoints: [makeWaitpoint(output), makeWaitpoint(undefined)] });
      assert.equal(await broker.dispatch(message), true, what);
      const event = await fleet.gotRun(message);
      assert.equal(event.message.completedWaitpoints[0].output, output, what);
      assert.deepEqual(event.message, asReceived(message), what);
    }
  });

  test("500 runners over 20 keys: a run arrives once and at its key if and only if it was answered true", async () => {
    const keys = Array.from({ length: 20 }, (_, i) => makeKey({ cpu: [0.25, 0.5, 1, 2][i % 4], memory: 1 + (i % 3) }));
    const absent = Array.from({ length: 4 }, (_, i) => makeKey({ cpu: [0.25, 0.5, 1, 2][i % 4] }));
    const processes = await Promise.all(Array.from({ length: 4 }, () => runners()));
    const received = new Map();
    const strange = [];
    for (const [p, process] of processes.entries()) {
      process.onEvent((event) => {
        if (event.ev === "run") received.set(event.run, (received.get(event.run) ?? 0) + 1);
        if (event.ev === "crash" || event.ev === "none" || event.wrongKey) strange.push(event);
      });
      for (let i = 0; i < 125; i++) {
        process.runner(keys[(p * 125 + i) % keys.length], { repeat: true, connect: i % 2 === 0, connectionTimeoutMs: 20_000, keepaliveMs: 120_000, pauseMs: [0, 5] });
      }
    }
    await broker.waiting(500);
    const answers = new Map();
    await pool(24, 4_000, async (i) => {
      const key = i % 10 === 0 ? absent[(i / 10) % absent.length] : keys[Math.floor(Math.random() * keys.length)];
      const message = makeMessage(key);
      answers.set(message.run.friendlyId, await broker.dispatch(message));
    });
    for (const process of processes) await process.settle();
    await broker.waiting(500);
    for (const process of processes) await process.settle();

    const warm = [...answers].filter(([, warm]) => warm).length;
    assert.deepEqual(strange, []);
    const wrong = {
      "answered true, never received": [...answers].filter(([run, warm]) => warm && !received.has(run)),
      "answered false, received": [...answers].filter(([run, warm]) => !warm && received.has(run)),
      "received twice": [...received].filter(([, times]) => times > 1),
      "received, never sent": [...received.keys()].filter((run) => !answers.has(run)),
    };
    assert.deepEqual(Object.entries(wrong).filter(([, runs]) => runs.length), []);
    // 500 runners poll again within milliseconds: only keys without runners may be cold.
    assert.ok(warm >= 3_500, `${warm} of 4,000 were warm`);
    assert.deepEqual(processes.flatMap((process) => process.errors), []);
  });

  test("an aborted client holds no poll", async () => {
    const key = makeKey();
    const ids = Array.from({ length: 20 }, () => fleet.runner(key));
    await broker.waiting(20);
    for (const id of ids) fleet.send({ op: "abort", id });
    for (const id of ids) await fleet.event("ended without a run", (e) => e.ev === "none" && e.id === id);
    await broker.waiting(0);
    assert.equal(await broker.dispatch(makeMessage(key)), false);
    // The same processes can poll again.
    fleet.runner(key);
    await broker.waiting(1);
    const message = makeMessage(key);
    assert.equal(await broker.dispatch(message), true);
    await fleet.gotRun(message);
  });

  test("a client whose poll times out polls again and gets its run", async () => {
    const key = makeKey();
    const id = fleet.runner(key, { connect: false, connectionTimeoutMs: 400, keepaliveMs: 60_000 });
    await until("it has polled again 5 times", () => fleet.timeouts >= 5);
    await broker.waiting(1);
    const message = makeMessage(key);
    // Between two polls the dispatch is cold.
    await until("a dispatch is warm", () => broker.dispatch(message));
    await fleet.gotRun(message);
    assert.equal(fleet.runsOf(message), 1);
    // A client without a run gives up after its keep-alive and leaves no poll.
    const idle = fleet.runner(makeKey(), { connect: false, connectionTimeoutMs: 400, keepaliveMs: 1_000 });
    await fleet.event("ended without a run", (e) => e.ev === "none" && e.id === idle);
    assert.deepEqual(fleet.errors, []);
    assert.ok(fleet.events.some((e) => e.ev === "gone" && e.id === id));
  });

  test("no run is confirmed for a runner process that was killed while it waited", async () => {
    const key = makeKey();
    const doomed = await runners();
    for (let i = 0; i < 20; i++) doomed.runner(key);
    await broker.waiting(20);
    process.kill(doomed.pid, "SIGKILL");
    // Sent while the kernel still closes its connections: true is right only if a runner reported the run.
    const racing = Array.from({ length: 5 }, () => makeMessage(key));
    const answers = await Promise.all(racing.map((message) => broker.dispatch(message)));
    await doomed.ended;
    if (confirm === "read") {
      assert.deepEqual(answers, racing.map((message) => doomed.runsOf(message) === 1));
    }
    assert.equal(await broker.dispatch(makeMessage(key)), false, "sent after its end");
    await broker.waiting(0);
  });

  // The kernel of a stopped process still acknowledges: only `read` notices.
  if (confirm === "read") {
    test("a run for a stopped runner process goes to another runner", async (t) => {
      const key = makeKey();
      // With one worker the newest poll of all is offered the run first.
      const single = await startBroker({ flags: ["--workers", "1", "--read-timeout", "700ms", "--shutdown-time", "200ms"] });
      ending.push(() => single.stop());
      const live = await runners(single);
      live.runner(key);
      await single.waiting(1);
      const frozen = await runners(single);
      frozen.runner(key);
      await single.waiting(2);
      await freeze(frozen.pid);
      const message = makeMessage(key);
      const began = Date.now();
      try {
        assert.equal(await single.dispatch(message), true);
        const took = Date.now() - began;
        assert.ok(took >= 690 && took < 2_000, `${took} ms`);
        await live.gotRun(message);
      } finally {
        process.kill(frozen.pid, "SIGCONT");
      }
      // Its kernel had received the bytes before, so a continued process still reads them. The platform's lock
      // prevents a second start of the run.
      await sleep(300);
      await frozen.settle();
      t.diagnostic(`the thawed process received the run too: ${frozen.runsOf(message) === 1}`);
      assert.equal(live.runsOf(message), 1);
    });
  }

  test("a connection is used again", async () => {
    const key = makeKey();
    const relay = await CountingRelay.start(broker.addr);
    ending.push(() => relay.stop());
    const alone = await runners(broker, { url: relay.url });
    // Node polls beside the connection that did /connect, Bun polls on it (docs/reference/protocol.md). The client uses
    // a poll's connection again unless the broker announced its close.
    const connections = (rounds) => (runtime === "bun" ? 0 : 1) + (confirm === "read" ? rounds : 1);
    for (let round = 1; round <= 3; round++) {
      alone.runner(key);
      await broker.waiting(1);
      const message = makeMessage(key);
      assert.equal(await broker.dispatch(message), true);
      await alone.gotRun(message);
      assert.deepEqual([relay.requests, relay.connections], [2 * round, connections(round)]);
    }
    // Idle for less than the client's 4 s.
    await sleep(1_500);
    alone.runner(key);
    await broker.waiting(1);
    assert.equal(relay.connections, connections(4));
  });

  test("runners survive a restart of the broker", async () => {
    const key = makeKey();
    let second;
    const first = await startBroker({ flags: ["--connection-timeout", "20s", "--shutdown-time", "200ms"] });
    const orphans = await runners(first);
    for (let i = 0; i < 10; i++) orphans.runner(key);
    await first.waiting(10);
    await first.stop("SIGKILL");
    ending.push(() => second?.stop());
    second = await startBroker({ listen: first.addr, flags: ["--connection-timeout", "20s", "--shutdown-time", "200ms"] });
    // Their back-off is random and may start with seconds.
    await until("all have come back", async () => (await second.status()).waiting === 10, { timeout: 30_000 });
    assert.deepEqual(orphans.events.filter((e) => e.ev === "crash" || e.ev === "none"), []);
    const message = makeMessage(key);
    assert.equal(await second.dispatch(message), true);
    await orphans.gotRun(message);
    await orphans.stop();
    await second.waiting(0);
  });
});
