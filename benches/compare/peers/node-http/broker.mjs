// The HTTP half of both Node peers. A pool has add(key, waiter) -> handle, remove(handle) and take(key) -> waiter.
import http from "node:http";

export function serve(pool) {
  const port = Number(process.argv[process.argv.indexOf("--port") + 1]);

  const server = http.createServer((req, res) => {
    if (req.url === "/warm-start" && req.method === "GET") return hold(pool, req, res);
    if (req.url === "/warm-start" && req.method === "POST") return dispatch(pool, req, res);
    if (req.url === "/connect") return json(res, 200, { connectionTimeoutMs: 30000, keepaliveMs: 300000 });
    json(res, 404, { error: "not found" });
  });
  // Node's own timeouts must not end a poll.
  server.requestTimeout = 0;
  server.headersTimeout = 0;
  server.timeout = 0;
  server.listen({ port, host: "127.0.0.1", backlog: 4096 });
}

function hold(pool, req, res) {
  const headers = req.headers;
  const key = {
    deployment: headers["x-trigger-deployment-id"],
    version: headers["x-trigger-deployment-version"],
    cpu: headers["x-trigger-machine-cpu"],
    memory: headers["x-trigger-machine-memory"],
  };
  if (!key.deployment || !key.version || !key.cpu || !key.memory) return json(res, 400, { error: "headers" });
  const handle = pool.add(key, res);
  res.once("close", () => pool.remove(handle));
}

function dispatch(pool, req, res) {
  const chunks = [];
  req.on("data", (chunk) => chunks.push(chunk));
  req.on("end", () => {
    let message;
    try {
      message = JSON.parse(Buffer.concat(chunks).toString("utf8")).dequeuedMessage;
    } catch {
      return json(res, 400, { error: "body" });
    }
    const deployment = message?.deployment?.friendlyId;
    const version = message?.backgroundWorker?.version;
    const machine = message?.run?.machine;
    if (typeof deployment !== "string" || typeof version !== "string" || !machine) {
      return json(res, 400, { error: "message" });
    }
    const key = { deployment, version, cpu: String(machine.cpu), memory: String(machine.memory) };
    const waiter = pool.take(key);
    if (waiter) json(waiter, 200, message);
    json(res, 200, { didWarmStart: waiter !== undefined });
  });
}

function json(res, status, value) {
  const body = JSON.stringify(value);
  res.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
  res.end(body);
}
