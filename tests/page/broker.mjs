// A broker for the page, with runners and supervisors.

import { spawn } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import { createInterface } from "node:readline";

const binary = process.env.PILOTLIGHT_BIN ?? new URL("../../target/release/pilotlight", import.meta.url).pathname;

export async function start(...flags) {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("PILOTLIGHT_")));
  const args = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", ...flags];
  const child = spawn(binary, args, { env, stdio: ["ignore", "ignore", "pipe"] });
  const failed = once(child, "error").then(([error]) => {
    throw new Error(`${binary}: ${error.message}: cargo build --release, or set PILOTLIGHT_BIN`);
  });
  const urls = {};
  const lines = createInterface({ input: child.stderr });
  const serving = new Promise((resolve, reject) => {
    lines.on("line", (line) => {
      const found = /listening side=(\w+) addr=(\S+)/.exec(line);
      if (found) urls[found[1]] = `http://${found[2]}`;
      if (line.includes("serving workers=")) resolve();
    });
    child.on("exit", (code) => reject(new Error(`the broker ended: ${code}`)));
  });
  await Promise.race([serving, failed]);
  return new Broker(child, urls);
}

class Broker {
  #polls = new Set();
  constructor(child, urls) {
    this.child = child;
    this.runner = urls.runner;
    this.admin = urls.admin;
  }

  /** Polls as a runner. Resolves with its run, or undefined when the poll ends. */
  poll({ deployment, version = "20260801.1", cpu = "0.5", memory = "0.5", node = "node-1" }) {
    const headers = {
      "x-trigger-workload-controller-id": "controller",
      "x-trigger-deployment-id": deployment,
      "x-trigger-deployment-version": version,
      "x-trigger-machine-cpu": cpu,
      "x-trigger-machine-memory": memory,
      "x-trigger-worker-instance-name": node,
    };
    return new Promise((resolve) => {
      const request = http.get(`${this.runner}/warm-start`, { headers, agent: false }, (response) => {
        let text = "";
        response.on("data", (part) => (text += part)).on("end", () => resolve(text));
      });
      this.#polls.add(request);
      request.on("error", () => resolve(undefined)).on("close", () => this.#polls.delete(request));
    });
  }

  async dispatch({ deployment, version = "20260801.1", cpu = 0.5, memory = 0.5 }) {
    const dequeuedMessage = {
      deployment: { friendlyId: deployment },
      backgroundWorker: { version },
      run: { friendlyId: "run_1", machine: { cpu, memory } },
    };
    const answer = await fetch(`${this.runner}/warm-start`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ dequeuedMessage }),
    });
    return (await answer.json()).didWarmStart;
  }

  async waiting(count) {
    for (let tries = 0; tries < 200; tries += 1) {
      const live = await (await fetch(`${this.admin}/api/live`)).json();
      if (live.waiting === count) return live;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`there were never ${count} polls`);
  }

  freeze() {
    this.child.kill("SIGSTOP");
  }

  async stop() {
    this.#polls.forEach((poll) => poll.destroy());
    this.child.kill("SIGCONT");
    this.child.kill("SIGKILL");
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, "exit");
  }
}
