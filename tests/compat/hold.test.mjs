// Polls held for longer than usual idle limits, on all runtimes and on a bare socket. It takes half a minute, so it is
// a separate file that runs in parallel with the others.
import assert from "node:assert/strict";
import { test } from "node:test";
import { makeKey, makeMessage } from "./messages.mjs";
import { RUNTIMES, RawPoll, RunnerProcess, settings, sleep, startBroker } from "./harness.mjs";

const HELD_MS = 33_000;

test(`polls held for ${HELD_MS / 1000} s, confirm ${settings.confirm}`, { timeout: 90_000 }, async (t) => {
  const broker = await startBroker({ flags: ["--connection-timeout", "45s", "--shutdown-time", "200ms"] });
  const held = [];
  for (const runtime of Object.keys(RUNTIMES)) {
    const process = await RunnerProcess.start(broker, { runtime });
    const key = makeKey();
    process.runner(key);
    held.push({ runtime, process, key });
  }
  const rawKey = makeKey();
  const raw = new RawPoll(broker, rawKey);
  await broker.waiting(held.length + 1);
  await sleep(HELD_MS);
  // The same polls are still held: none was closed, and no client polled again.
  await broker.waiting(held.length + 1);
  const { workers } = await broker.status();
  assert.equal(workers.reduce((sum, worker) => sum + worker.polls, 0), held.length + 1);

  for (const { runtime, process, key } of held) {
    await t.test(`${runtime} gets its run`, async () => {
      assert.equal(process.timeouts, 0);
      assert.deepEqual(process.errors, []);
      const message = makeMessage(key);
      assert.equal(await broker.dispatch(message), true);
      await process.gotRun(message);
    });
  }
  await t.test("a bare socket gets its run", async () => {
    const message = makeMessage(rawKey);
    const [answer, warm] = await Promise.all([raw.response(), broker.dispatch(message)]);
    assert.equal(warm, true);
    assert.equal(answer.body.toString(), JSON.stringify(message));
  });

  await Promise.all(held.map(({ process }) => process.stop()));
  await broker.waiting(0);
  assert.deepEqual(await broker.stop(), { code: 0, signal: null });
});
