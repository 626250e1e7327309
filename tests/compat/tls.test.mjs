// Trigger.dev's client over https, set up as an operator does it: with a private authority that the runners' runtime
// trusts through NODE_EXTRA_CA_CERTS.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { makeKey, makeMessage, makeWaitpoint } from "./messages.mjs";
import { RUNTIMES, RunnerProcess, settings, sleep, start, startBroker } from "./harness.mjs";

const { runtime, confirm } = settings;
const PATIENT = ["--dispatch-timeout", "15s", "--read-timeout", "10s", "--ack-timeout", "5s", "--shutdown-time", "200ms"];

/** An authority, and a server's certificate by it, made by openssl. */
function makeIdentity(folder) {
  const at = (name) => join(folder, name);
  const openssl = (...args) => execFileSync("openssl", args, { stdio: ["ignore", "ignore", "pipe"] });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  openssl("req", "-x509", ...key, "-keyout", at("ca.key"), "-out", at("ca.crt"), "-days", "2", "-subj", "/CN=tests");
  openssl("req", ...key, "-keyout", at("server.key"), "-out", at("server.csr"), "-subj", "/CN=localhost");
  writeFileSync(at("extensions"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
  const signed = ["-CA", at("ca.crt"), "-CAkey", at("ca.key"), "-CAcreateserial", "-days", "2", "-extfile", at("extensions")];
  openssl("x509", "-req", "-in", at("server.csr"), "-out", at("server.crt"), ...signed);
  return { ca: at("ca.crt"), flags: ["--tls-cert", at("server.crt"), "--tls-key", at("server.key")] };
}

/** The answer that a supervisor on Node gets, which trusts the authority. */
async function dispatchOverTls(url, message, ca) {
  const script = `
    const answer = await fetch(process.argv[1] + "/warm-start", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: process.argv[2],
    });
    console.log(await answer.text());
  `;
  const args = ["--input-type=module", "-e", script, url, JSON.stringify({ dequeuedMessage: message })];
  const child = start(RUNTIMES.node22, args, {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, NODE_EXTRA_CA_CERTS: ca },
  });
  let said = "";
  child.stdout.on("data", (text) => (said += text));
  await child.ended;
  return JSON.parse(said).didWarmStart;
}

describe(`https on ${runtime}, confirm ${confirm}`, { timeout: 120_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), "pilotlight-tls-"));
  let identity;
  let broker;
  let url;

  before(async () => {
    identity = makeIdentity(folder);
    // Runners over TLS, the supervisor in this process without.
    const flags = ["--dispatch-listen", "127.0.0.1:0", ...identity.flags, ...PATIENT];
    broker = await startBroker({ flags });
    url = `https://${broker.addr}`;
  });
  after(async () => {
    assert.deepEqual(await broker?.stop(), { code: 0, signal: null }, "the broker stops cleanly");
    rmSync(folder, { recursive: true });
  });

  test("every run reaches its runner once, byte for byte, and is confirmed", async () => {
    const runners = await RunnerProcess.start(broker, { url, env: { NODE_EXTRA_CA_CERTS: identity.ca } });
    const key = makeKey();
    const runner = runners.runner(key, { repeat: true });
    const messages = Array.from({ length: 200 }, (_, i) =>
      // Sizes from less than a segment to many records.
      makeMessage(key, i % 4 === 3 ? { waitpoints: [makeWaitpoint("x".repeat(i * 1_999))] } : {}),
    );
    for (const message of messages) {
      // The answer is false until the runner polls again.
      while (!(await broker.dispatch(message))) await sleep(2);
      await runners.gotRun(message, { every: 1 });
    }
    await runners.settle();
    for (const message of messages) assert.equal(runners.runsOf(message), 1);
    assert.ok(!runners.events.some((event) => event.wrongKey || event.ev === "crash"));
    const { workers } = await broker.status();
    const total = (name) => workers.reduce((sum, worker) => sum + worker[name], 0);
    assert.equal(total("warm"), messages.length);
    // No reset and no timeout: close_notify of either side does not prevent a proof.
    assert.equal(total("unconfirmed"), 0);
    assert.equal(total("attempts"), messages.length);
    assert.equal(total("tls_failures"), 0);
    runners.send({ op: "stop", id: runner });
    await runners.stop();
    await broker.waiting(0);
  });

  test("an aborted poll ends, and a runner that does not trust the authority gets nothing", async () => {
    const runners = await RunnerProcess.start(broker, { url, env: { NODE_EXTRA_CA_CERTS: identity.ca } });
    const id = runners.runner(makeKey());
    await broker.waiting(1);
    runners.send({ op: "abort", id });
    await broker.waiting(0);
    await runners.stop();

    const strangers = await RunnerProcess.start(broker, { url });
    const stranger = strangers.runner(makeKey());
    const how = await strangers.event("no way", (event) => event.id === stranger && event.ev !== "connected");
    assert.equal(how.ev, "unreachable", JSON.stringify(how));
    await strangers.stop();
  });

  test("a supervisor on Node dispatches over https", async () => {
    const shared = await startBroker({ flags: [...identity.flags, ...PATIENT] });
    const at = `https://${shared.addr}`;
    const runners = await RunnerProcess.start(shared, { url: at, env: { NODE_EXTRA_CA_CERTS: identity.ca } });
    const key = makeKey();
    runners.runner(key);
    await shared.waiting(1);
    const message = makeMessage(key);
    assert.equal(await dispatchOverTls(at, message, identity.ca), true);
    await runners.gotRun(message);
    assert.equal(await dispatchOverTls(at, makeMessage(key), identity.ca), false);
    await runners.stop();
    assert.deepEqual(await shared.stop(), { code: 0, signal: null });
  });
});
