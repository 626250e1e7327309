// One Map from the four fields, joined, to the polls that wait with them.
import { serve } from "../node-http/broker.mjs";

const waiting = new Map();

const join = (key) => `${key.deployment}|${key.version}|${key.cpu}|${key.memory}`;

serve({
  add(key, waiter) {
    const name = join(key);
    let waiters = waiting.get(name);
    if (!waiters) waiting.set(name, (waiters = new Set()));
    waiters.add(waiter);
    return { name, waiter };
  },
  remove({ name, waiter }) {
    const waiters = waiting.get(name);
    if (waiters?.delete(waiter) && waiters.size === 0) waiting.delete(name);
  },
  take(key) {
    const name = join(key);
    const waiters = waiting.get(name);
    if (!waiters) return undefined;
    const waiter = waiters.values().next().value;
    this.remove({ name, waiter });
    return waiter;
  },
});
