// Prints the unmodified client's behaviour on the wire, for each runtime, with a logging server in place of the broker.
// The table in docs/reference/protocol.md is this script's output.
//
//   node wire.mjs [--runtime node20,node22,node24,bun] [--only WORDS] [--patience SECONDS]
import { createServer } from "node:net";
import { parseArgs } from "node:util";
import { RUNTIMES, RunnerProcess, now, sleep, until } from "./harness.mjs";
import { makeKey, makeMessage, makeWaitpoint } from "./messages.mjs";

const { values } = parseArgs({
  options: {
    runtime: { type: "string", default: Object.keys(RUNTIMES).join() },
    only: { type: "string", default: "" },
    patience: { type: "string", default: "14" },
  },
});

/** Accepts and logs, and answers only on request. */
class Recorder {
  sockets = [];
  requests = [];
  peak = 0;
  #server;
  static async start() {
    const self = new Recorder();
    self.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      const seen = { n: self.sockets.length, opened: now(), requests: 0, socket };
      self.sockets.push(seen);
      self.peak = Math.max(self.peak, self.open.length);
      let text = "";
      socket.on("data", (chunk) => {
        text += chunk.toString("latin1");
        let end;
        while ((end = text.indexOf("\r\n\r\n")) >= 0) {
          const head = text.slice(0, end);
          text = text.slice(end + 4);
          seen.requests += 1;
          const request = { at: now(), seen, head, path: head.split(" ")[1] };
          self.requests.push(request);
          self.onRequest?.(request);
        }
      });
      socket.on("end", () => {
        seen.fin = now();
        // Answers a FIN with a FIN, as the broker does.
        if (!seen.hold) socket.end();
      });
      socket.on("error", (error) => {
        seen.rst = now();
        seen.error = error.code;
      });
      socket.on("close", () => (seen.closed = now()));
    });
    await new Promise((done) => self.#server.listen(0, "127.0.0.1", 4096, done));
    self.url = `http://127.0.0.1:${self.#server.address().port}`;
    return self;
  }
  get open() {
    return this.sockets.filter((s) => !s.fin && !s.rst && !s.closed);
  }
  get polls() {
    return this.requests.filter((r) => r.path === "/warm-start");
  }
  stop() {
    for (const { socket } of this.sockets) socket.destroy();
    this.#server.close();
  }
}

const answer = (request, body, headers = "") =>
  request.seen.socket.write(`HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n${headers}\r\n${body}`);
const answerConnect = (request, headers) => answer(request, '{"connectionTimeoutMs":30000,"keepaliveMs":300000}', headers);
const CLOSE = "connection: close\r\n";
const how = (seen) => (seen.rst ? `RST (${seen.error})` : seen.fin ? "FIN" : "open");
const ms = (from, to) => (to === undefined ? "-" : (to - from).toFixed(1));
const quantiles = (list) => {
  const sorted = list.toSorted((a, b) => a - b);
  const at = (q) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]?.toFixed(2) ?? "-";
  return `p50 ${at(0.5)}, p99 ${at(0.99)}, max ${at(1)} ms (${sorted.length})`;
};
const tally = (list) =>
  Object.entries(Object.groupBy(list, (x) => x))
    .map(([what, all]) => `${what} x${all.length}`)
    .join(", ");

const scenarios = {
  async "request heads"(record, process) {
    const recorder = await Recorder.start();
    process.send({ op: "target", url: recorder.url });
    recorder.onRequest = (r) => r.path === "/connect" && answerConnect(r);
    const id = process.runner(makeKey());
    await until("polled", () => recorder.polls.length);
    process.send({ op: "abort", id });
    await sleep(100);
    for (const path of ["/connect", "/warm-start"]) {
      const { head } = recorder.requests.find((r) => r.path === path);
      record(`\`${path}\``, head.replaceAll("\r\n", " ⏎ ").replace(/127\.0\.0\.1:\d+/, "127.0.0.1:PORT"));
    }
    recorder.stop();
  },

  async "connect, then poll: on one connection?"(record, process) {
    const same = [];
    for (let i = 0; i < 10; i++) {
      const recorder = await Recorder.start();
      process.send({ op: "target", url: recorder.url });
      recorder.onRequest = (r) => r.path === "/connect" && answerConnect(r);
      const id = process.runner(makeKey());
      await until("polled", () => recorder.polls.length);
      await sleep(60);
      same.push(`${recorder.polls[0].seen.requests === 2 ? "same" : "another"} (${recorder.sockets.length} sockets in all)`);
      process.send({ op: "abort", id });
      await sleep(30);
      recorder.stop();
    }
    record("the poll's connection is", tally(same));
  },

  async "answered, connection kept"(record, process) {
    const recorder = await Recorder.start();
    process.send({ op: "target", url: recorder.url });
    const key = makeKey();
    recorder.onRequest = (r) =>
      r.path === "/connect" ? answerConnect(r) : setTimeout(() => answer(r, JSON.stringify(makeMessage(key))), 50);
    process.runner(key, { repeat: true, pauseMs: [20, 20] });
    await until("10 polls answered", () => recorder.polls.length > 10);
    record("10 rounds of connect and poll", `${recorder.sockets.length} connections, ${recorder.peak} at once, requests on each: ${recorder.sockets.map((s) => s.requests).join(" ")}`);
    process.send({ op: "stop" });
    await sleep(100);
    recorder.stop();
  },

  async "answered with `Connection: close`"(record, process) {
    for (const [what, pad, rounds] of [["1.5 KB", 0, 60], ["300 KB", 300_000, 30], ["2 MB", 2_000_000, 10]]) {
      const recorder = await Recorder.start();
      process.send({ op: "target", url: recorder.url });
      const key = makeKey();
      const text = JSON.stringify(makeMessage(key, pad ? { waitpoints: [makeWaitpoint("x".repeat(pad))] } : {}));
      recorder.onRequest = (r) => {
        if (r.path === "/connect") return answerConnect(r);
        // Held, so that only the client can send a FIN.
        r.seen.hold = true;
        setTimeout(() => {
          r.answered = now();
          answer(r, text, CLOSE);
        }, 20);
      };
      process.runner(key, { repeat: true, pauseMs: [5, 10] });
      await until("enough rounds", () => recorder.polls.filter((r) => r.seen.fin || r.seen.rst).length >= rounds, { timeout: 30_000 });
      const done = recorder.polls.filter((r) => r.answered && (r.seen.fin || r.seen.rst));
      record(`${what}: ends with`, tally(done.map((r) => how(r.seen))));
      record(`${what}: response written to that end`, quantiles(done.map((r) => (r.seen.fin ?? r.seen.rst) - r.answered)));
      record(`${what}: connections`, `${recorder.sockets.length} for ${recorder.requests.length} requests, at most ${recorder.peak} at once, requests on each: ${tally(recorder.sockets.map((s) => s.requests))}`);
      process.send({ op: "stop" });
      await sleep(100);
      recorder.stop();
    }
  },

  async "the client's own timeout (400 ms), 12 times"(record, process) {
    const recorder = await Recorder.start();
    process.send({ op: "target", url: recorder.url });
    recorder.onRequest = (r) => r.path === "/connect" && answerConnect(r);
    const id = process.runner(makeKey(), { connectionTimeoutMs: 400, keepaliveMs: 60_000 });
    await until("12 polls", () => recorder.polls.length > 12);
    const polls = recorder.polls.slice(0, 12);
    record("an abandoned poll ends with", tally(polls.map((r) => how(r.seen))));
    record("after", quantiles(polls.map((r) => (r.seen.fin ?? r.seen.rst) - r.at)));
    record("the next poll arrives after that end by", quantiles(polls.map((r, i) => recorder.polls[i + 1].at - (r.seen.fin ?? r.seen.rst))));
    record("its connection was opened before its own request by", quantiles(recorder.polls.slice(1, 13).map((r) => r.at - r.seen.opened)));
    record("sockets", `${recorder.sockets.length} for ${recorder.requests.length} requests, ${recorder.open.length} open in the end, at most ${recorder.peak} at once`);
    record("without any request so far", recorder.sockets.filter((s) => s.requests === 0).length);
    process.send({ op: "stop", id });
    await sleep(150);
    record("open after the client stopped", tally(recorder.open.map((s) => `${s.requests} requests`)) || "none");
    recorder.stop();
  },

  async "the client's own timeout, longer than its idle limit (6 s), 4 times"(record, process) {
    const recorder = await Recorder.start();
    process.send({ op: "target", url: recorder.url });
    recorder.onRequest = (r) => r.path === "/connect" && answerConnect(r);
    process.runner(makeKey(), { connectionTimeoutMs: 6_000, keepaliveMs: 60_000 });
    const open = [];
    const sampler = setInterval(() => open.push(recorder.open.length), 250);
    await until("4 polls", () => recorder.polls.length > 4, { timeout: 40_000 });
    clearInterval(sampler);
    record("each poll's connection was opened before its request by", recorder.polls.slice(0, 5).map((r) => `${ms(r.seen.opened, r.at)} ms`).join(", "));
    record("sockets", `${recorder.sockets.length} for ${recorder.requests.length} requests, ${recorder.sockets.filter((s) => !s.requests).length} without any; open at once, sampled every 250 ms: ${tally(open)}`);
    process.send({ op: "stop" });
    await sleep(100);
    recorder.stop();
  },

  async "abort() while it waits"(record, process) {
    const ends = [];
    const delays = [];
    for (let i = 0; i < 10; i++) {
      const recorder = await Recorder.start();
      process.send({ op: "target", url: recorder.url });
      recorder.onRequest = (r) => r.path === "/connect" && answerConnect(r);
      const id = process.runner(makeKey());
      await until("polled", () => recorder.polls.length);
      await sleep(50);
      const before = recorder.sockets.length;
      const at = now();
      process.send({ op: "abort", id });
      const { seen } = recorder.polls[0];
      await until("it ends", () => seen.fin || seen.rst);
      await sleep(50);
      ends.push(`${how(seen)}, ${recorder.sockets.length - before} opened by the abort`);
      delays.push((seen.fin ?? seen.rst) - at);
      recorder.stop();
    }
    record("ends with", tally(ends));
    record("after", quantiles(delays));
  },

  async "a socket that pre-opened itself: how long is it kept without a request?"(record, process) {
    const recorder = await Recorder.start();
    process.send({ op: "target", url: recorder.url });
    recorder.onRequest = (r) => r.path === "/connect" && answerConnect(r);
    const id = process.runner(makeKey());
    await until("polled", () => recorder.polls.length);
    process.send({ op: "abort", id });
    await sleep(100);
    const unused = recorder.open.filter((s) => s.requests === 0);
    if (!unused.length) return record("there is", "none");
    await sleep(12_000);
    record("after 12 s", tally(unused.map((s) => (s.fin ? `FIN after ${ms(s.opened, s.fin)} ms` : how(s)))));
    recorder.stop();
  },

  async "kept-alive and idle: when does the client close it?"(record, process) {
    for (const [what, headers] of [["no hint", ""], ["`Keep-Alive: timeout=9`", "connection: keep-alive\r\nkeep-alive: timeout=9\r\n"], ["`Keep-Alive: timeout=2`", "connection: keep-alive\r\nkeep-alive: timeout=2\r\n"]]) {
      const recorder = await Recorder.start();
      process.send({ op: "target", url: recorder.url });
      const key = makeKey();
      let answered;
      recorder.onRequest = (r) => {
        if (r.path === "/connect") return answerConnect(r, headers);
        answered = now();
        answer(r, JSON.stringify(makeMessage(key)), headers);
      };
      process.runner(key);
      await until("answered", () => answered);
      const { seen } = recorder.polls[0];
      await until("closed", () => seen.fin || seen.rst, { timeout: values.patience * 1_000 }).catch(() => {});
      record(what, seen.fin || seen.rst ? `${how(seen)} after ${ms(answered, seen.fin ?? seen.rst)} ms` : `not within ${values.patience} s`);
      recorder.stop();
    }
  },

  async "a kept connection that the broker closes while it is idle"(record, process) {
    for (const [what, gap] of [["noticed before the next request", 50], ["FIN and next request at the same moment", 0]]) {
      const recorder = await Recorder.start();
      process.send({ op: "target", url: recorder.url });
      const key = makeKey();
      recorder.onRequest = (r) => {
        if (r.path === "/connect") {
          // A request that crosses the server's FIN is never answered on that connection.
          if (!r.seen.ending) answerConnect(r);
          return;
        }
        answer(r, JSON.stringify(makeMessage(key)));
        r.seen.ending = true;
        for (const { n, socket } of recorder.open) {
          recorder.sockets[n].ending = true;
          setTimeout(() => socket.end(), 10);
        }
      };
      process.errors.length = 0;
      const from = process.events.length;
      process.runner(key, { repeat: true, pauseMs: gap ? [10 + gap, 10 + gap] : [9, 11] });
      await until("20 runs", () => process.events.slice(from).filter((e) => e.ev === "run").length >= 20, { timeout: 30_000 }).catch(() => {});
      const rounds = process.events.slice(from).filter((e) => e.ev === "run").length;
      record(what, `${rounds} runs received, ${recorder.requests.filter((r) => r.path === "/connect").length} connects, ${recorder.polls.length} polls, ${process.errors.length} errors logged by the client, ${tally(process.events.slice(from).filter((e) => !["run", "gone"].includes(e.ev)).map((e) => e.ev)) || "no failure"}`);
      process.send({ op: "stop" });
      await sleep(100);
      recorder.stop();
    }
  },

  async "closed by the broker without an answer"(record, process) {
    for (const [what, end] of [["FIN", (s) => s.end()], ["RST", (s) => s.resetAndDestroy()]]) {
      const recorder = await Recorder.start();
      process.send({ op: "target", url: recorder.url });
      const ended = [];
      recorder.onRequest = (r) => {
        if (r.path === "/connect") return answerConnect(r);
        if (ended.length < 4)
          setTimeout(() => {
            ended.push(now());
            end(r.seen.socket);
          }, 30);
      };
      process.errors.length = 0;
      const from = process.events.length;
      process.runner(makeKey());
      await until("4 tries", () => recorder.polls.length >= 4, { timeout: 40_000 }).catch(() => {});
      record(`${what}: polls again after`, recorder.polls.slice(1).map((r, i) => `${ms(ended[i], r.at)} ms`).join(", "));
      record(`${what}: runner`, `${process.events.slice(from).map((e) => e.ev).join(" ") || "survives"}, ${process.errors.length} errors logged by the client for ${ended.length} closed polls`);
      process.send({ op: "stop" });
      await sleep(100);
      recorder.stop();
    }
  },

  async "abort() within 3 ms of the response"(record, process) {
    const counts = {};
    for (const close of [true, false]) {
      const recorder = await Recorder.start();
      process.send({ op: "target", url: recorder.url });
      const key = makeKey();
      const outcomes = [];
      for (let i = 0; i < 150; i++) {
        const message = makeMessage(key);
        const id = process.runner(key, { connect: false, connectionTimeoutMs: 30_000, keepaliveMs: 300_000 });
        const request = await until("polled", () => recorder.polls[i], { every: 1 });
        request.seen.hold = close;
        const at = now() + 15;
        process.send({ op: "abortAt", id, at });
        await sleep(Math.max(0, at - now() + (Math.random() * 6 - 3)));
        answer(request, JSON.stringify(message), close ? CLOSE : "");
        await process.event("gone", (e) => e.ev === "gone" && e.id === id, { every: 1 });
        await sleep(5);
        const end = close || request.seen.fin || request.seen.rst ? how(request.seen) : "kept";
        outcomes.push(`${process.runsOf(message) ? "got the run" : "aborted"}, ${end}`);
        if (close) request.seen.socket.destroy();
        process.events.length = 0;
      }
      record(close ? "with `Connection: close`" : "connection kept", tally(outcomes));
      recorder.stop();
    }
  },

  async "event loop blocked for 2 s, response after 0.2 s, reset by the broker 1 s later"(record, process) {
    const outcomes = [];
    for (let i = 0; i < 3; i++) {
      const recorder = await Recorder.start();
      process.send({ op: "target", url: recorder.url });
      const key = makeKey();
      const message = makeMessage(key);
      process.runner(key, { connect: false, connectionTimeoutMs: 30_000, keepaliveMs: 300_000 });
      const request = await until("polled", () => recorder.polls[0]);
      request.seen.hold = true;
      await sleep(50);
      process.send({ op: "block", ms: 2_000 });
      await sleep(200);
      const at = now();
      answer(request, JSON.stringify(message), CLOSE);
      await sleep(1_000);
      const end = request.seen.fin ? `FIN ${ms(at, request.seen.fin).split(".")[0]} ms after the response` : "nothing for 1 s";
      if (!request.seen.fin) request.seen.socket.resetAndDestroy();
      await sleep(1_500);
      await process.settle();
      outcomes.push(`${end}; the run was ${process.runsOf(message) ? "received" : "not received"} in the end`);
      process.send({ op: "stop" });
      await sleep(100);
      recorder.stop();
    }
    record("the broker sees", tally(outcomes));
  },

  async "SIGKILL while it waits"(record, process) {
    const recorder = await Recorder.start();
    process.send({ op: "target", url: recorder.url });
    recorder.onRequest = (r) => r.path === "/connect" && answerConnect(r);
    process.runner(makeKey());
    await until("polled", () => recorder.polls.length);
    await sleep(50);
    await process.kill();
    await sleep(50);
    record("the poll ends with", how(recorder.polls[0].seen));
    recorder.stop();
  },
};

for (const runtime of values.runtime.split(",")) {
  const process = await RunnerProcess.start(undefined, { runtime, url: "http://127.0.0.1:1" });
  console.log(`\n## ${process.version}\n`);
  for (const [title, scenario] of Object.entries(scenarios)) {
    if (!title.includes(values.only)) continue;
    console.log(`\n**${title}**`);
    await scenario((what, value) => console.log(`- ${what}: ${value}`), process).catch((error) => console.log(`- failed: ${error.message}`));
    await process.settle();
  }
  await process.stop();
}

process.exit(0);
