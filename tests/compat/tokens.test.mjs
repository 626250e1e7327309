// Deployment tokens as `@trigger.dev/core` mints and verifies them. Runners get tokens from its minting function, and
// the broker must accept and refuse the same tokens as its verification (the supervisor's).
import { mintWorkloadDeploymentToken as mint, classifyDeploymentIdHeader as classify } from "@trigger.dev/core/v3";
import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { FlattenedSign, SignJWT } from "jose";
import { makeKey, makeMessage } from "./messages.mjs";
import { RawPoll, RunnerProcess, settings, startBroker, until } from "./harness.mjs";

const SECRET = "what the supervisor has as WORKLOAD_TOKEN_SECRET, ünïcödé and all";
const OTHER = "another secret, which the broker does not know at all";
const EXP = Math.floor(Date.UTC(2032, 0, 1) / 1000);
const folder = mkdtempSync(join(tmpdir(), "pilotlight-tokens-"));
const PATIENT = ["--dispatch-timeout", "15s", "--read-timeout", "10s", "--ack-timeout", "5s", "--shutdown-time", "200ms"];
const REASONS = ["bare", "malformed", "algorithm", "signature", "claims", "expired", "version"];

const claimsOf = (key) => ({
  deployment: key.deployment,
  deployment_version: key.version,
  environment_id: "cm0environment",
  environment_type: "PRODUCTION",
  org_id: "cm0organization",
  project_id: "cm0project",
});

/** A key whose runners carry a token of the supervisor's. */
const minted = async (key = makeKey(), secret = SECRET, exp = EXP) => ({ ...key, token: await mint(claimsOf(key), secret, exp) });

async function withBroker(mode, use) {
  const file = join(folder, "secrets");
  writeFileSync(file, `${SECRET}\n`);
  chmodSync(file, 0o600);
  const tokens = mode === "off" ? [] : ["--token-mode", mode, "--token-secret-file", file];
  const broker = await startBroker({ flags: ["--connection-timeout", "20s", ...PATIENT, ...tokens] });
  const runners = await RunnerProcess.start(broker);
  try {
    await use(broker, runners);
  } finally {
    await runners.stop();
    assert.deepEqual(await broker.stop(), { code: 0, signal: null }, "the broker stops cleanly");
  }
}

const faults = async (broker) => {
  const { workers } = await broker.status();
  const count = (reason) => workers.reduce((sum, worker) => sum + worker[`token_${reason}`], 0);
  return Object.fromEntries(REASONS.map((reason) => [reason, count(reason)]).filter(([, n]) => n > 0));
};

describe(`deployment tokens on ${settings.runtime}, confirm ${settings.confirm}`, { timeout: 120_000 }, () => {
  after(() => rmSync(folder, { recursive: true }));

  test("enforce: a minted token gets its run; bare, foreign, expired and tampered ones end their runner", async () => {
    await withBroker("enforce", async (broker, runners) => {
      const honest = await minted();
      const ids = [runners.runner(honest), runners.runner(honest)];
      await broker.waiting(2);
      const [header, payload, signature] = honest.token.split(".");
      const attacker = await minted(makeKey({ version: honest.version }));
      const bad = {
        bare: { ...honest, token: undefined },
        "another secret": await minted(honest, OTHER),
        expired: await minted(honest, SECRET, Math.floor(Date.now() / 1000) - 1),
        "another version": { ...honest, version: "20200101.1" },
        "another's claims": { ...honest, token: [header, payload, attacker.token.split(".")[2]].join(".") },
        "alg none": { ...honest, token: [Buffer.from('{"alg":"none"}').toString("base64url"), payload, signature].join(".") },
      };
      for (const [what, key] of Object.entries(bad)) {
        const id = runners.runner(key);
        // Immediately, not after its keep-alive of five minutes.
        await runners.event(what, (event) => event.id === id && event.ev === "gone", { timeout: 5_000 });
        assert.ok(!runners.events.some((event) => event.id === id && event.ev === "run"), what);
      }
      assert.deepEqual(await faults(broker), { bare: 1, algorithm: 1, signature: 2, expired: 1, version: 1 });
      // No other runner polls for these.
      for (const _ of ids) {
        const message = makeMessage(honest);
        assert.equal(await broker.dispatch(message), true);
        await runners.gotRun(message);
      }
      assert.equal(await broker.dispatch(makeMessage(honest)), false);
      assert.equal(await broker.dispatch(makeMessage({ ...honest, deployment: honest.token })), false);
    });
  });

  for (const mode of ["off", "log"]) {
    test(`${mode}: runners with and without a token share a pool`, async () => {
      await withBroker(mode, async (broker, runners) => {
        const key = makeKey();
        const fleet = [key, await minted(key), await minted(key, OTHER), await minted(key, SECRET, 1)];
        for (const member of fleet) runners.runner(member);
        await broker.waiting(fleet.length);
        const { keys } = await broker.status();
        assert.deepEqual(keys.map((row) => [row.deployment, row.waiting]), [[key.deployment, fleet.length]]);
        for (const _ of fleet) {
          const message = makeMessage(key);
          assert.equal(await broker.dispatch(message), true);
          await runners.gotRun(message);
        }
        assert.equal(await broker.dispatch(makeMessage(key)), false);
        assert.deepEqual(await faults(broker), mode === "log" ? { bare: 1, signature: 1, expired: 1 } : {});
      });
    });
  }

  test("tokens that the supervisor accepts but never mints: other HMACs, repeated claims, padding", async () => {
    await withBroker("enforce", async (broker) => {
      const key = makeKey();
      const claims = { ver: 1, ...claimsOf(key), iss: "https://id.trigger.dev", aud: "https://api.trigger.dev", exp: EXP };
      const secret = new TextEncoder().encode(SECRET);
      const twice = new FlattenedSign(Buffer.from(JSON.stringify(claims).replace("{", '{"deployment":"deployment_other",')));
      const { protected: header, payload, signature } = await twice.setProtectedHeader({ alg: "HS256" }).sign(secret);
      const cases = {
        algorithm: await new SignJWT(claims).setProtectedHeader({ alg: "HS512" }).sign(secret),
        claims: [header, payload, signature].join("."),
        malformed: `${await mint(claimsOf(key), SECRET, EXP)}=`,
      };
      for (const [reason, token] of Object.entries(cases)) {
        assert.equal((await classify(token, SECRET)).outcome, "jwt_valid", reason);
        const { status } = await new RawPoll(broker, { ...key, token }).response();
        assert.equal(status, 401, reason);
      }
      assert.deepEqual(await faults(broker), { malformed: 1, algorithm: 1, claims: 1 });
    });
  });

  test("the broker accepts and refuses the same tokens as the supervisor's verification", async () => {
    await withBroker("enforce", async (broker) => {
      const key = makeKey();
      const sign = (change, { secret = SECRET, header = { alg: "HS256" } } = {}) => {
        const claims = { ver: 1, ...claimsOf(key), iss: "https://id.trigger.dev", aud: "https://api.trigger.dev", exp: EXP };
        const payload = Object.fromEntries(Object.entries({ ...claims, ...change }).filter(([, value]) => value !== undefined));
        return new SignJWT(payload).setProtectedHeader(header).sign(new TextEncoder().encode(secret));
      };
      const now = Math.floor(Date.now() / 1000);
      const cases = {
        "as it is minted": await mint(claimsOf(key), SECRET, EXP),
        "signed again": await sign({}),
        "with iat": await sign({ iat: now }),
        "with claims of tomorrow": await sign({ tomorrow: [{ deployment: "another" }], jti: "1" }),
        "with typ and kid": await sign({}, { header: { alg: "HS256", typ: "JWT", kid: "1" } }),
        "valid since a while": await sign({ nbf: now - 60 }),
        "every kind of character": await sign({ org_id: "\u0000\"\\\u2028\u{1f600}é", environment_type: "" }),
        "an exp with a fraction": await sign({ exp: EXP + 0.5 }),
        "bare": key.deployment,
        "two parts": (await sign({})).split(".").slice(0, 2).join("."),
        "another secret": await sign({}, { secret: OTHER }),
        "expired": await sign({ exp: now - 1 }),
        "expires now": await sign({ exp: now }),
        "not valid yet": await sign({ nbf: now + 600 }),
        "ver 2": await sign({ ver: 2 }),
        "ver a string": await sign({ ver: "1" }),
        "iat a string": await sign({ iat: "now" }),
        "another issuer": await sign({ iss: "https://id.example" }),
        "another audience": await sign({ aud: "https://example" }),
      };
      for (const name of [...Object.keys(claimsOf(key)), "ver", "exp"]) {
        cases[`no ${name}`] = await sign({ [name]: undefined });
        if (name !== "ver") cases[`${name} null`] = await sign({ [name]: null });
      }
      const statuses = {};
      for (const [what, token] of Object.entries(cases)) {
        const { outcome } = await classify(token, SECRET);
        const poll = new RawPoll(broker, { ...key, token });
        const answer = poll.response();
        if (outcome === "jwt_valid") await until(`${what} gets a run`, () => broker.dispatch(makeMessage(key)));
        const { status, headers } = await answer;
        statuses[what] = [outcome === "jwt_valid" ? 200 : 401, status];
        if (status === 401) assert.ok(headers["www-authenticate"], what);
      }
      assert.deepEqual(Object.entries(statuses).filter(([, [theirs, ours]]) => theirs !== ours), []);
      const taken = Object.values(statuses).filter(([, ours]) => ours === 200).length;
      assert.deepEqual([taken, Object.keys(statuses).length], [8, 34]);
    });
  });
});
