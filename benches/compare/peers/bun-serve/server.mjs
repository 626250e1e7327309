// Bun.serve with its native routes: no schema validation, and a pending poll is resolved when its client aborts.
const port = Number(process.argv[process.argv.indexOf("--port") + 1]);
const headers = process.argv.includes("--close") ? { connection: "close" } : undefined;

const waiting = new Map();

Bun.serve({
  port,
  hostname: "127.0.0.1",
  idleTimeout: 0,
  routes: {
    "/connect": { GET: () => Response.json({ connectionTimeoutMs: 30000, keepaliveMs: 300000 }) },
    "/warm-start": { GET: hold, POST: dispatch },
  },
  fetch: () => new Response(null, { status: 404 }),
});

function hold(req) {
  const h = req.headers;
  const deployment = h.get("x-trigger-deployment-id");
  const version = h.get("x-trigger-deployment-version");
  const cpu = h.get("x-trigger-machine-cpu");
  const memory = h.get("x-trigger-machine-memory");
  if (!deployment || !version || !cpu || !memory) return new Response(null, { status: 400 });
  const name = `${deployment}|${version}|${cpu}|${memory}`;
  return new Promise((resolve) => {
    let waiters = waiting.get(name);
    if (!waiters) waiting.set(name, (waiters = new Set()));
    waiters.add(resolve);
    req.signal.addEventListener(
      "abort",
      () => {
        waiters.delete(resolve);
        if (waiters.size === 0 && waiting.get(name) === waiters) waiting.delete(name);
        // A promise that never settles would keep the whole request alive.
        resolve(new Response(null, { status: 499 }));
      },
      { once: true },
    );
  });
}

async function dispatch(req) {
  let message;
  try {
    message = (await req.json()).dequeuedMessage;
  } catch {
    return new Response(null, { status: 400 });
  }
  const deployment = message?.deployment?.friendlyId;
  const version = message?.backgroundWorker?.version;
  const machine = message?.run?.machine;
  if (typeof deployment !== "string" || typeof version !== "string" || !machine) {
    return new Response(null, { status: 400 });
  }
  const name = `${deployment}|${version}|${machine.cpu}|${machine.memory}`;
  const waiters = waiting.get(name);
  const resolve = waiters?.values().next().value;
  if (!resolve) return Response.json({ didWarmStart: false });
  waiters.delete(resolve);
  if (waiters.size === 0) waiting.delete(name);
  resolve(Response.json(message, { headers }));
  return Response.json({ didWarmStart: true });
}
