// Tables of the long measurements, and writing them into a page of docs/.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { join } from "node:path";
import { RUNTIMES, here } from "./harness.mjs";

const root = join(here, "..", "..");

/** A Markdown table that is printed line by line, while it grows. */
export class Table {
  #rows = [];
  /** @param {[string, number][]} columns title and width of each */
  constructor(columns) {
    this.titles = columns.map(([title]) => title);
    this.widths = columns.map(([title, width]) => Math.max(title.length, width));
    this.#print(this.titles);
    console.log(`|${this.widths.map((width) => `${"-".repeat(width + 1)}:`).join("|")}|`);
  }
  #print(cells) {
    console.log(`| ${cells.map((cell, i) => cell.padStart(this.widths[i])).join(" | ")} |`);
  }
  row(cells) {
    const texts = cells.map((cell) => String(cell ?? "–"));
    this.#rows.push(texts);
    this.#print(texts);
  }
  markdown() {
    const line = (cells) => `| ${cells.join(" | ")} |\n`;
    return line(this.titles) + line(this.titles.map(() => "---")) + this.#rows.map(line).join("");
  }
}

const said = (command, args) => execFileSync(command, args, { cwd: root, encoding: "utf8", timeout: 20_000 }).trim();

/** When, where and of what a measurement that began at `began` (Date.now()) is. */
export function provenance(began, runtimes) {
  const minutes = Math.max(1, Math.round((Date.now() - began) / 60_000));
  const processor = cpus()[0]?.model.trim() ?? "an unknown processor";
  const client = JSON.parse(readFileSync(join(here, "package.json"), "utf8")).dependencies["@trigger.dev/core"];
  const versions = runtimes.map((runtime) => `${runtime === "bun" ? "Bun" : "Node"} ${said(RUNTIMES[runtime], ["--version"]).replace(/^v/, "")}`);
  const commit = said("git", ["rev-parse", "--short", "HEAD"]);
  const changed = said("git", ["status", "--porcelain", "--untracked-files=no", "--", "src", "Cargo.lock", "Cargo.toml"]) ? ", changed" : "";
  return `Measured ${new Date().toISOString().slice(0, 10)} in ${minutes} minutes on ${processor} (${cpus().length} cores), Linux ${release()}, with @trigger.dev/core ${client} on ${versions.join(" and ")}; pilotlight's commit ${commit}${changed}.`;
}

/** Replaces the text in docs/`page` between the marks of `script`. */
export function writeBetweenMarks(page, script, text) {
  const path = join(root, "docs", page);
  const [begin, end] = [`<!-- Written by tests/compat/${script}: do not edit from here -->\n`, "<!-- to here -->\n"];
  const whole = readFileSync(path, "utf8");
  const from = whole.indexOf(begin);
  const to = whole.indexOf(end, from);
  if (from < 0 || to < 0) throw new Error(`docs/${page} has no place for what ${script} writes`);
  writeFileSync(path, `${whole.slice(0, from)}${begin}\n${text.trim()}\n\n${whole.slice(to)}`);
  console.log(`\nwritten to docs/${page}`);
}
