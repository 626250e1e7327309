// A supervisor for the run controller: the workload API over HTTP and the /workload namespace of socket.io, with the
// answers that @trigger.dev/core's schemas require. It records all requests.
import { createServer } from "node:http";
import { Server } from "socket.io";
import { until } from "./harness.mjs";

const machine = { name: "small-1x", cpu: 0.5, memory: 0.5, centsPerMs: 0.0000338 };

export class MockSupervisor {
  /** @type {{run: string, body: any, headers: any}[]} */
  starts = [];
  completions = [];
  subscriptions = [];
  unknown = [];
  #runs = new Map();

  static async start() {
    const self = new MockSupervisor();
    self.server = createServer((request, response) => self.#serve(request, response));
    self.io = new Server(self.server);
    self.io.of("/workload").on("connection", (socket) => {
      for (const event of ["run:start", "run:stop"]) {
        socket.on(event, (message) => self.subscriptions.push({ event, run: message.run.friendlyId, headers: socket.handshake.headers }));
      }
    });
    await new Promise((done) => self.server.listen(0, "127.0.0.1", done));
    self.port = self.server.address().port;
    self.url = `http://127.0.0.1:${self.port}`;
    return self;
  }

  /** A run that may be started: of the task "hello", with `payload`. */
  expect(run, payload) {
    this.#runs.set(run, { payload, snapshots: 1, attempt: 0 });
  }

  started(run) {
    return until(`${run} starts`, () => this.starts.find((start) => start.run === run), { timeout: 30_000 });
  }
  completed(run) {
    return until(`${run} completes`, () => this.completions.find((completion) => completion.run === run), { timeout: 30_000 });
  }

  async stop() {
    await this.io.close();
    this.server.closeAllConnections();
  }

  #result(run, executionStatus, status) {
    const state = this.#runs.get(run);
    const id = `${run.replace("run_", "")}_${++state.snapshots}`;
    return {
      snapshot: { id: `cm${id}`, friendlyId: `snapshot_${id}`, executionStatus, description: "by the mock", createdAt: new Date() },
      run: { id: `cm${run}`, friendlyId: run, status, attemptNumber: state.attempt },
    };
  }

  #execution(run) {
    const { payload, attempt } = this.#runs.get(run);
    const at = new Date();
    return {
      task: { id: "hello", filePath: "hello.mjs" },
      attempt: { number: attempt, startedAt: at },
      run: {
        id: run,
        payload: JSON.stringify(payload),
        payloadType: "application/json",
        tags: [],
        isTest: false,
        isReplay: false,
        createdAt: at,
        startedAt: at,
        durationMs: 0,
        costInCents: 0,
        baseCostInCents: 0,
        traceContext: {},
      },
      queue: { id: "queue_1", name: "task/hello" },
      environment: { id: "cmenv", slug: "prod", type: "PRODUCTION" },
      organization: { id: "cmorg", slug: "org", name: "Org" },
      project: { id: "cmproj", ref: "proj_compat", slug: "compat", name: "Compat" },
      machine,
    };
  }

  async #serve(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const reply = (body) => {
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify(body));
    };
    const path = new URL(request.url, this.url).pathname;
    const action = /^\/api\/v1\/workload-actions\/runs\/([^/]+)\/(?:snapshots\/([^/]+)\/(.+)|logs\/debug)$/.exec(path);
    const run = action?.[1];
    if (this.#runs.has(run)) {
      switch (action[3]) {
        case "attempts/start":
          this.#runs.get(run).attempt += 1;
          this.starts.push({ run, body: JSON.parse(text), headers: request.headers });
          return reply({
            ...this.#result(run, "EXECUTING", "EXECUTING"),
            execution: this.#execution(run),
            envVars: { TRIGGER_SECRET_KEY: "tr_prod_compat", TRIGGER_API_URL: this.url, TRIGGER_RUN_ID: run },
          });
        case "attempts/complete":
          this.completions.push({ run, completion: JSON.parse(text).completion });
          return reply({ result: { attemptStatus: "RUN_FINISHED", ...this.#result(run, "FINISHED", "COMPLETED_SUCCESSFULLY") } });
        case "heartbeat":
          return reply({ ok: true });
      }
      if (action[2] === "since") return reply({ snapshots: [] });
    }
    if (path.startsWith("/otel/")) return reply({});
    this.unknown.push(`${request.method} ${path}`);
    response.statusCode = 404;
    reply({ error: "not mocked" });
  }
}
