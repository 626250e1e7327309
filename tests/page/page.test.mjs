// The page in headless Chromium: empty, busy, without a broker; light, dark, on a phone; by keyboard; with
// names that are attacks. Screenshots go to target/page. Check them when the page changes.

import assert from "node:assert/strict";
import { mkdirSync, existsSync } from "node:fs";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { start } from "./broker.mjs";

const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const shots = process.env.PILOTLIGHT_SHOTS ?? new URL("../../target/page", import.meta.url).pathname;
const DESK = { width: 1180, height: 900 };
const PHONE = { width: 375, height: 800 };

let browser;
before(async () => {
  assert.ok(executablePath, "chromium is missing: apt-get install chromium");
  mkdirSync(shots, { recursive: true });
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
});
after(() => browser?.close());

/** Opens the page. `sound` fails the test after an error, a refused policy or a request to another host. */
async function open(broker, t, options = {}) {
  const context = await browser.newContext({ viewport: DESK, ...options });
  const page = await context.newPage();
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error" && !options.mayFail) wrong.push(message.text());
  });
  page.on("dialog", (dialog) => {
    wrong.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(broker.admin)) wrong.push(`asks ${request.url()}`);
  });
  t.after(() => context.close());
  await page.goto(broker.admin);
  return { page, sound: () => assert.deepEqual(wrong, []) };
}

const text = (page, selector) => page.locator(selector).innerText();
const shot = (page, name) => page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
const badge = (page, word) => page.locator("#state", { hasText: word }).waitFor({ timeout: 15_000 });

/** No sideways scrolling of the page itself. */
async function fits(page) {
  const [wide, inner] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= inner, `${wide} px of page in ${inner} px of window`);
}

async function busy(t) {
  const broker = await start("--workers", "2");
  t.after(() => broker.stop());
  for (let index = 0; index < 12; index += 1) broker.poll({ deployment: `deployment_${index % 3}`, node: `node-${index % 2}` });
  broker.poll({ deployment: "deployment_0", cpu: "4", memory: "8" });
  await broker.waiting(13);
  for (let index = 0; index < 6; index += 1) {
    assert.equal(await broker.dispatch({ deployment: `deployment_${index % 3}` }), true);
  }
  assert.equal(await broker.dispatch({ deployment: "deployment_1", version: "20260802.1" }), false);
  assert.equal(await broker.dispatch({ deployment: "deployment_2", cpu: 2, memory: 4 }), false);
  assert.equal(await broker.dispatch({ deployment: "deployment_new" }), false);
  return broker;
}

test("empty: the page says that nothing has happened yet", async (t) => {
  const broker = await start("--workers", "2");
  t.after(() => broker.stop());
  const { page, sound } = await open(broker, t);
  await badge(page, "live");
  assert.match(await text(page, "#pools"), /No runner has polled/);
  assert.match(await text(page, "#recent"), /No run has been dispatched/);
  assert.equal(await page.locator("#workers tbody tr").count(), 2);
  assert.match(await text(page, "#about"), /proof: read/);
  assert.equal(await page.locator("#alert").isVisible(), false);
  await fits(page);
  await shot(page, "empty");
  sound();
});

test("busy: pools, dispatches and the reasons of cold ones, live", async (t) => {
  const broker = await busy(t);
  const { page, sound } = await open(broker, t);
  await badge(page, "live");
  await page.locator("#recent tbody tr").nth(8).waitFor();
  const recent = await text(page, "#recent");
  assert.match(recent, /other version: \d waiting with version 20260801\.1/);
  assert.match(recent, /other machine size: \d waiting with 0\.5 vCPU, 0\.5 GB/);
  assert.match(recent, /no runner/);
  assert.equal(await page.locator("#recent td.warm").count(), 6);
  const row = page.locator("#pools tbody tr", { hasText: "deployment_0" }).filter({ hasText: "0.5 vCPU" });
  assert.deepEqual((await row.locator("td").allInnerTexts()).slice(3, 6), ["2", "2", "0"]);
  assert.match(await text(page, "#tiles"), /66\.7 %/);
  // A new dispatch appears without a reload.
  await broker.dispatch({ deployment: "deployment_while_you_watch" });
  await page.locator("#recent tbody tr", { hasText: "deployment_while_you_watch" }).waitFor({ timeout: 10_000 });
  await page.locator("#rate rect").first().waitFor({ state: "attached", timeout: 25_000 });
  await fits(page);
  await shot(page, "busy-light");
  await page.emulateMedia({ colorScheme: "dark" });
  await shot(page, "busy-dark");
  const dark = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(dark, "rgb(22, 21, 20)");
  await page.locator("summary").click();
  assert.match(await text(page, "#settings"), /--ack-timeout\s+300ms/);
  sound();
});

test("on a phone nothing is cut off", async (t) => {
  const broker = await busy(t);
  const { page, sound } = await open(broker, t, { viewport: PHONE, isMobile: true });
  await page.locator("#recent tbody tr").nth(8).waitFor();
  await fits(page);
  assert.equal(await page.locator("#pools td").first().getAttribute("data-label"), "Deployment");
  await page.screenshot({ path: `${shots}/phone.png` });
  await page.evaluate(() => document.getElementById("recent-title").scrollIntoView());
  await page.screenshot({ path: `${shots}/phone-dispatches.png` });
  sound();
});

test("paused, the page does not change; resumed, it catches up", async (t) => {
  const broker = await busy(t);
  const { page, sound } = await open(broker, t);
  await page.locator("#recent tbody tr").nth(8).waitFor();
  await page.keyboard.press("p");
  await badge(page, "paused");
  assert.equal(await page.locator("#pause").getAttribute("aria-pressed"), "true");
  await broker.dispatch({ deployment: "deployment_meanwhile" });
  await page.waitForTimeout(2_500);
  assert.equal(await page.locator("#recent", { hasText: "deployment_meanwhile" }).count(), 0);
  await page.locator("#pause").click();
  await page.locator("#recent", { hasText: "deployment_meanwhile" }).waitFor({ timeout: 10_000 });
  sound();
});

test("by keyboard only: search, clear, and every control", async (t) => {
  const broker = await busy(t);
  const { page, sound } = await open(broker, t);
  await page.locator("#recent tbody tr").nth(8).waitFor();
  await page.keyboard.press("/");
  await page.keyboard.type("deployment_1 cold");
  await page.waitForFunction(() => document.querySelectorAll("#recent tbody tr").length === 1);
  assert.match(await text(page, "#recent"), /20260802\.1/);
  assert.match(await text(page, "#pools"), /No pool matches/);
  assert.match(await text(page, "#found"), /1 dispatches/);
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => document.querySelectorAll("#recent tbody tr").length === 9);
  const reached = new Set();
  await page.evaluate(() => document.activeElement?.blur());
  for (let presses = 0; presses < 14; presses += 1) {
    await page.keyboard.press("Tab");
    reached.add(await page.evaluate(() => document.activeElement.id || document.activeElement.tagName));
  }
  for (const control of ["pause", "search", "SUMMARY", "DIV"]) assert.ok(reached.has(control), `${control}: ${[...reached]}`);
  sound();
});

test("names are shown as text", async (t) => {
  const broker = await start("--workers", "1");
  t.after(() => broker.stop());
  const attacks = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(2)</script>",
    "\"><svg onload=alert(3)>",
    "javascript:alert(4)",
    "'-alert(5)-'",
    "{{constructor['constructor']('alert(6)')()}}",
    "x".repeat(300),
  ];
  for (const deployment of attacks) {
    broker.poll({ deployment, version: deployment, node: deployment });
    await broker.dispatch({ deployment, version: `${deployment}2` });
  }
  await broker.waiting(attacks.length);
  // The page also shows names in its alert.
  await fetch(`${broker.admin}/cordon`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ node: "<b onmouseover=alert(7)>node</b>" }),
  });
  const { page, sound } = await open(broker, t);
  await page.locator("#pools tbody tr").nth(attacks.length - 1).waitFor();
  await page.locator("#alert", { hasText: "<b onmouseover" }).waitFor();
  const pools = await page.locator("#pools tbody td:first-child").allTextContents();
  for (const attack of attacks) assert.ok(pools.includes(attack), attack);
  const foreign = await page.evaluate(
    () => document.querySelectorAll("main img, main script, main b, td *, td svg, [onerror], [onload], [onmouseover]").length,
  );
  assert.equal(foreign, 0);
  await fits(page);
  await shot(page, "attacks");
  // The content security policy holds: injected script does not run.
  const ran = await page.evaluate(() => {
    try {
      document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='globalThis.ran = true'>");
    } catch (error) {
      return error.name;
    }
    return String(globalThis.ran);
  });
  assert.equal(ran, "TypeError");
});

test("a broker that does not answer, a cordon, and a broker that has ended", async (t) => {
  const broker = await busy(t);
  const { page } = await open(broker, t, { mayFail: true });
  await page.locator("#recent tbody tr").nth(8).waitFor();
  broker.freeze();
  await badge(page, "no answer");
  assert.match(await text(page, "#alert"), /does not answer: the numbers below are old/);
  assert.ok((await page.locator("#pools tbody tr").count()) >= 4);
  await shot(page, "broken");
  broker.child.kill("SIGCONT");
  await badge(page, "live");
  await fetch(`${broker.admin}/cordon`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ deployment: "deployment_0" }),
  });
  await page.locator("#alert", { hasText: "Cordoned: deployment deployment_0" }).waitFor();
  await broker.stop();
  await badge(page, "no answer");
  await shot(page, "gone");
});
