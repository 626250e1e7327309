#!/usr/bin/env node
// What confirming costs the supervisor: dispatches, one at a time, to real clients that wait; from the request's
// last byte to the answer's first. Measured by one process on a bare socket, on loopback.
//
//   node latency.mjs [--dispatches 1000] [--runtime node22,bun] [--confirm write,ack,read] [--runners 8]
//
// Prints a table and judges nothing: on a machine that does something else the figures are that machine's.
import { connect } from "node:net";
import { parseArgs } from "node:util";
import { RunnerProcess, now, sleep, startBroker } from "./harness.mjs";
import { makeKey, makeMessage } from "./messages.mjs";

const { values: options } = parseArgs({
  options: {
    dispatches: { type: "string", default: "1000" },
    runners: { type: "string", default: "8" },
    runtime: { type: "string", default: "node22,bun" },
    confirm: { type: "string", default: "write,ack,read" },
  },
});

/** A supervisor's connection: one request at a time. */
class Supervisor {
  #answered;
  constructor(broker) {
    const [host, port] = broker.addr.split(":");
    this.host = broker.addr;
    this.socket = connect({ host, port: Number(port) });
    this.socket.setNoDelay(true);
    this.socket.on("data", (chunk) => this.#answered?.(now(), chunk));
  }

  /** Milliseconds from the request to the answer; nothing if it was false. */
  async dispatch(message) {
    const body = Buffer.from(JSON.stringify({ dequeuedMessage: message }));
    const head = `POST /warm-start HTTP/1.1\r\nHost: ${this.host}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`;
    const request = Buffer.concat([Buffer.from(head), body]);
    const answer = new Promise((done) => (this.#answered = (at, chunk) => done({ at, chunk })));
    const began = now();
    this.socket.write(request);
    const { at, chunk } = await answer;
    return chunk.includes('{"didWarmStart":true}') ? at - began : undefined;
  }
}

function quantile(sorted, q) {
  return (sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] * 1_000).toFixed(0);
}

async function cell(runtime, confirm) {
  const broker = await startBroker({ confirm });
  const runners = await RunnerProcess.start(broker, { runtime });
  const key = makeKey();
  for (let i = 0; i < Number(options.runners); i++) runners.runner(key, { repeat: true, persist: true });
  await broker.waiting(Number(options.runners));
  const supervisor = new Supervisor(broker);
  const times = [];
  const warmUp = 100;
  for (let i = 0; i < warmUp + Number(options.dispatches); i++) {
    // Its own wake-ups must not be what is measured: nobody else has anything to do by then.
    await sleep(5 + Math.random() * 5);
    const took = await supervisor.dispatch(makeMessage(key));
    if (took !== undefined && i >= warmUp) times.push(took);
  }
  supervisor.socket.destroy();
  await runners.stop();
  await broker.stop();
  return times.sort((a, b) => a - b);
}

console.log("From the request's last byte to the answer's first, microseconds:\n");
console.log("| runtime | confirm | dispatches true | p50 | p95 | p99 | max |");
console.log("|---|---|---:|---:|---:|---:|---:|");
for (const runtime of options.runtime.split(","))
  for (const confirm of options.confirm.split(",")) {
    const times = await cell(runtime, confirm);
    console.log(`| ${runtime} | ${confirm} | ${times.length} | ${[0.5, 0.95, 0.99, 1].map((q) => quantile(times, q)).join(" | ")} |`);
  }
