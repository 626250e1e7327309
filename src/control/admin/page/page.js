"use strict";
// Clients choose the names that are shown, so the page inserts them as text only.

// The flags behind a reason. Every reason is shown by its name.
const REASON_FLAGS = { parked: "--guard", key_limit: "--max-keys", bytes_limit: "--max-buffered" };
const RECENT_ROWS = 200;
// On a phone each row is a card. More cards would push the tables below too far down.
const RECENT_CARDS = 25;
const narrow = matchMedia("(max-width: 640px)");
const SILENCE_MS = 5000;
const SVG = "http://www.w3.org/2000/svg";

const at = (id) => document.getElementById(id);
const state = { live: null, history: null, recent: [], paused: false, heardAt: 0, query: "", source: null };

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) made.setAttribute(key, value);
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

function reasonText(reason) {
  const name = reason.replaceAll("_", " ");
  return REASON_FLAGS[reason] ? `${name} (${REASON_FLAGS[reason]})` : name;
}
const count = (number) => Number(number).toLocaleString("en-US");
const machineSize = (row) => (row.cpu === null ? "" : `${row.cpu} vCPU, ${row.memory} GB`);
function time(us) {
  if (us === null || us === undefined) return "–";
  if (us < 1000) return `${us} µs`;
  if (us < 1e6) return `${(us / 1000).toPrecision(3)} ms`;
  if (us < 6e7) return `${(us / 1e6).toPrecision(3)} s`;
  return `${Math.floor(us / 6e7)} min`;
}
// A worker reads its clock once per turn: a dispatch that is answered in the turn in which it arrived took 0.
const took = (us) => (us === 0 ? "< 1 turn" : time(us));
function share(part, whole) {
  return whole === 0 ? "–" : `${((part / whole) * 100).toFixed(part === whole ? 0 : 1)} %`;
}
function uptime(seconds) {
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} days`;
}

function fill(id, rows, empty) {
  const table = at(id);
  const labels = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const made = rows.map(({ cells, kind }) => {
    const row = element("tr", kind ? { class: kind } : {});
    cells.forEach((cell, index) => {
      const content = cell && typeof cell === "object" ? cell : { text: cell };
      const classes = [table.tHead.rows[0].cells[index].className, content.kind].filter(Boolean).join(" ");
      const data = element("td", { "data-label": labels[index] }, content.text ?? "");
      if (classes) data.className = classes;
      row.append(data);
    });
    return row;
  });
  if (made.length === 0) {
    made.push(element("tr", { class: "none" }, element("td", { colspan: labels.length }, empty)));
  }
  table.tBodies[0].replaceChildren(...made);
}

function matches(...texts) {
  const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
  const text = texts.join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

function showTiles(live) {
  const dispatched = live.warm + live.cold + live.unconfirmed;
  const last = (state.history?.samples ?? []).slice(-30);
  const sum = (name) => last.reduce((total, sample) => total + sample[name], 0);
  const recently = sum("warm") + sum("cold") + sum("unconfirmed");
  // The last ten seconds are in no sample yet.
  const young = recently === 0 && live.uptime_seconds < 300;
  const recent = young ? share(live.warm, dispatched) : share(sum("warm"), recently);
  const full = live.connections > live.connections_limit * 0.9;
  const tiles = [
    ["Warm, last 5 min", recent, "first"],
    ["Warm, since start", share(live.warm, dispatched)],
    ["Runners waiting", count(live.waiting)],
    ["Dispatches", count(dispatched)],
    ["Unconfirmed", count(live.unconfirmed), live.unconfirmed > 0 ? "unconfirmed" : ""],
    ["Connections", `${count(live.connections)} / ${count(live.connections_limit)}`, full ? "unconfirmed" : ""],
  ];
  at("tiles").replaceChildren(
    ...tiles.map(([name, value, kind]) => {
      const shown = element("dd", kind ? { class: kind } : {}, value);
      return element("div", {}, element("dt", {}, name), shown);
    }),
  );
}

function showAlert(live) {
  const stalled = live.workers.filter((worker) => worker.stalled).map((worker) => worker.worker);
  const dropped = live.workers.reduce((total, worker) => total + worker.events_dropped, 0);
  const messages = [];
  if (state.lost) messages.push("The broker does not answer: the numbers below are old.");
  if (live.shutting_down) messages.push("The broker is shutting down: it answers every dispatch false.");
  if (stalled.length > 0) messages.push(`Worker ${stalled.join(", ")} does not answer: its numbers are old.`);
  for (const cordon of live.cordons) {
    messages.push(cordon.node === undefined ? `Cordoned: deployment ${cordon.deployment}.` : `Cordoned: node ${cordon.node}.`);
  }
  if (live.connections > live.connections_limit * 0.9) messages.push("More than 90 % of the connections are in use (--max-connections).");
  if (dropped > 0) messages.push(`${count(dropped)} events were dropped: the list of dispatches has gaps.`);
  const shown = messages.length > 6 ? [...messages.slice(0, 5), `… and ${messages.length - 5} more.`] : messages;
  const text = shown.join(" ");
  at("alert").hidden = messages.length === 0;
  if (at("alert").textContent !== text) at("alert").textContent = text;
}

function showPools(live) {
  const rows = live.pools.filter((pool) => matches(pool.deployment, pool.version, machineSize(pool)));
  const held = (pool) => {
    const parts = [];
    if (pool.cordoned > 0) parts.push(`${pool.cordoned} cordoned`);
    if (pool.parked > 0) parts.push(`${pool.parked} parked`);
    return parts.length > 0 ? `${count(pool.waiting)} (${parts.join(", ")})` : count(pool.waiting);
  };
  fill(
    "pools",
    rows.map((pool) => ({
      cells: [
        pool.deployment, pool.version, machineSize(pool), held(pool), { text: count(pool.warm), kind: pool.warm ? "warm" : "" },
        { text: count(pool.cold), kind: pool.cold ? "cold" : "" },
        { text: count(pool.unconfirmed), kind: pool.unconfirmed ? "unconfirmed" : "" }, pool.waiting > 0 ? time(pool.oldest_wait_ms * 1000) : "–",
      ],
    })),
    state.query ? "No pool matches the search." : "No runner has polled and no run has been dispatched yet.",
  );
  const more = live.pools_total > live.pools.length ? ` of ${count(live.pools_total)}` : "";
  at("pools-count").textContent = `${count(rows.length)}${more}`;
}

function showRecent() {
  const why = (dispatch) => {
    const reason = dispatch.reason === null ? "" : reasonText(dispatch.reason);
    return dispatch.closest === null ? reason : `${reason}: ${dispatch.closest}`;
  };
  const rows = state.recent
    .filter((one) => matches(one.run ?? "", one.deployment ?? "", one.version ?? "", machineSize(one), one.outcome, one.reason ?? "", why(one), one.traceparent ?? ""));
  const shown = rows.slice(0, narrow.matches ? RECENT_CARDS : RECENT_ROWS);
  fill(
    "recent",
    shown.map((one) => ({
      cells: [
        new Date(one.at_ms).toLocaleTimeString("en-GB"), { text: one.outcome, kind: one.outcome }, why(one),
        one.run ?? "", one.deployment ?? "", one.version ?? "", machineSize(one), took(one.took_us), count(one.attempts),
      ],
    })),
    state.query ? "No dispatch matches the search." : "No run has been dispatched yet.",
  );
  at("recent-count").textContent = shown.length < rows.length ? `${count(shown.length)} of ${count(rows.length)}` : count(rows.length);
  at("found").textContent = state.query ? `${at("pools-count").textContent} pools, ${rows.length} dispatches` : "";
}

function showWorkers(live) {
  fill(
    "workers",
    live.workers.map((worker) => ({
      kind: worker.stalled ? "stalled" : "",
      cells: [
        worker.stalled ? `${worker.worker} (does not answer)` : worker.worker, count(worker.waiting), count(worker.connections),
        count(worker.warm), count(worker.cold), count(worker.unconfirmed), count(worker.offers_sent), time(worker.turn_p99_us),
      ],
    })),
    "No worker.",
  );
}

function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function showHistory(history) {
  const samples = history.samples;
  const [width, height] = [720, 140];
  const x = (index) => width - (samples.length - index) * 2;
  const all = (one) => one.warm + one.cold + one.unconfirmed;
  const most = Math.max(1, ...samples.map(all));
  const bars = samples.flatMap((sample, index) => {
    let top = height;
    return ["warm", "unconfirmed", "cold"].filter((name) => sample[name] > 0).map((name) => {
      const tall = (sample[name] / most) * (height - 6);
      top -= tall;
      return shape("rect", { x: x(index), y: top, width: 2, height: tall, class: name });
    });
  });
  at("rate").replaceChildren(...bars);
  at("rate-top").textContent = bars.length > 0 ? `max: ${count(most)} in ${history.interval_seconds} s` : "";
  at("rate-none").hidden = bars.length > 0;
  const minute = samples.slice(-6);
  const warm = minute.reduce((total, one) => total + one.warm, 0);
  const dispatched = minute.reduce((total, one) => total + all(one), 0);
  at("rate-now").textContent = dispatched === 0 ? "" : `${share(warm, dispatched)} of ${count(dispatched)} in the last minute`;
  const slowest = Math.max(...samples.map((one) => one.delivery_p99_us ?? 0));
  // Logarithmic from 10 µs: deliveries take from tens of microseconds to a second.
  const y = (us) => height - 3 - (Math.log(Math.max(us, 10) / 10) / Math.log(Math.max(slowest, 100) / 10)) * (height - 10);
  const line = (name, kind) => {
    const points = samples.map((one, index) => [one[name], index]).filter(([us]) => us !== null);
    const path = points.flatMap(([us, index]) => [`${x(index)},${y(us)}`, `${x(index) + 2},${y(us)}`]);
    return shape("polyline", { points: path.join(" "), class: kind });
  };
  at("latency").replaceChildren(line("delivery_p50_us", "p50"), line("delivery_p99_us", "p99"));
  const latest = samples.findLast((one) => one.delivery_p50_us !== null);
  at("latency-now").textContent = latest ? `median ${time(latest.delivery_p50_us)}, 99 % within ${time(latest.delivery_p99_us)}` : "";
  at("latency-none").hidden = slowest > 0;
  at("latency-top").textContent = slowest > 0 ? `max: ${time(slowest)}, logarithmic scale` : "";
}

function showWhy(live) {
  const reasons = Object.entries(live.reasons).filter(([, number]) => number > 0);
  reasons.sort((one, other) => other[1] - one[1]);
  at("why").replaceChildren(
    ...reasons.map(([reason, number]) => element("span", {}, `${reasonText(reason)}: ${count(number)}`)),
  );
}

function show() {
  const badge = at("state");
  const live = state.live;
  const word = state.lost ? "no answer" : state.paused ? "paused" : live?.shutting_down ? "shutting down" : live ? "live" : "connecting";
  badge.className = `badge ${word.replace(" ", "-")}`;
  if (badge.textContent !== word) badge.textContent = word;
  if (live === null) return;
  at("about").textContent =
    `${live.version}, ${live.engine}, proof: ${live.confirm}, up ${uptime(live.uptime_seconds)}`;
  document.title = state.lost ? "Pilotlight: no answer" : "Pilotlight";
  showTiles(live);
  showAlert(live);
  showPools(live);
  showRecent();
  showWorkers(live);
  showWhy(live);
  if (state.history) showHistory(state.history);
}

function listen() {
  const source = new EventSource("/api/events");
  state.source = source;
  const on = (name, take) =>
    source.addEventListener(name, (message) => {
      state.heardAt = Date.now();
      state.lost = false;
      take(JSON.parse(message.data));
      if (!state.paused) show();
    });
  on("live", (live) => {
    // A new process counts from 0.
    if (state.live && live.uptime_seconds < state.live.uptime_seconds) state.recent = [];
    if (!state.paused) state.live = live;
  });
  on("history", (history) => {
    if (!state.paused) state.history = history;
  });
  on("dispatches", (news) => {
    if (state.paused) return;
    const known = new Set(state.recent.map((one) => one.seq));
    const fresh = news.dispatches.filter((one) => !known.has(one.seq)).reverse();
    state.recent = [...fresh, ...state.recent].slice(0, 1000);
  });
  source.onerror = () => {
    // EventSource reconnects, except after an answer that is not a stream.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  };
}

function pause(paused) {
  state.paused = paused;
  at("pause").setAttribute("aria-pressed", String(paused));
  at("pause").textContent = paused ? "Resume" : "Pause";
  if (!paused) {
    state.source?.close();
    listen();
  }
  show();
}

async function settings() {
  try {
    const answer = await fetch("/api/settings");
    const all = Object.entries(await answer.json());
    at("settings").replaceChildren(
      ...all.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
    );
  } catch {
    setTimeout(settings, 3000);
  }
}

at("pause").addEventListener("click", () => pause(!state.paused));
at("search").addEventListener("input", (event) => {
  state.query = event.target.value;
  show();
});
narrow.addEventListener("change", show);
document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement;
  if (event.key === "Escape" && typing) {
    event.target.value = state.query = "";
    event.target.blur();
    show();
  } else if (!typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    if (event.key === "/") {
      event.preventDefault();
      at("search").focus();
    } else if (event.key === "p") pause(!state.paused);
  }
});
setInterval(() => {
  const lost = state.heardAt > 0 && Date.now() - state.heardAt > SILENCE_MS;
  if (lost !== Boolean(state.lost) && !state.paused) {
    state.lost = lost;
    show();
  }
}, 1000);
listen();
settings();
