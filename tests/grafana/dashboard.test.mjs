// Checks the dashboard against Grafana's schema: TypeScript compiles the JSON as a literal of the published types
// (@grafana/schema, with the panels' options), so that a field that Grafana does not know is an error too.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const here = dirname(fileURLToPath(import.meta.url));
const dashboard = JSON.parse(readFileSync(join(here, "../../deploy/grafana/dashboards/pilotlight.json"), "utf8"));
const folder = join(here, "node_modules/.checked");
const raw = "@grafana/schema/dist/esm/raw";

// Enums are written as their values. The fields that only Prometheus queries have are not published: they are in Query.
const PRELUDE = `
import type { DataQuery, Dashboard, Panel, RowPanel } from "@grafana/schema";
import type * as stat from "${raw}/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as timeseries from "${raw}/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
import type * as heatmap from "${raw}/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen";

type Written<T> =
  T extends string ? \`\${T}\`
  : T extends number ? (\`\${T}\` extends infer S ? S extends \`\${infer N extends number}\` ? N : number : never)
  : T extends boolean | null | undefined ? T
  : T extends (infer E)[] ? Written<E>[]
  : T extends object ? { [K in keyof T]: Written<T[K]> }
  : T;
type Some<T> = T extends object ? { [K in keyof T]?: Some<T[K]> } : T;
type Query = DataQuery & { expr: string; legendFormat?: string; format?: "time_series" | "table" | "heatmap"; instant?: boolean; range?: boolean; interval?: string };
type Of<Options, Custom = {}> = Written<
  Omit<Panel, "options" | "fieldConfig" | "targets">
  & { options: Some<Options>; targets: Query[] }
  & { fieldConfig: { defaults: Omit<NonNullable<Panel["fieldConfig"]>["defaults"], "custom"> & { custom?: Some<Custom> } } & Pick<NonNullable<Panel["fieldConfig"]>, "overrides"> }
>;
type Panels = {
  row: Written<RowPanel>;
  stat: Of<stat.Options>;
  timeseries: Of<timeseries.Options, timeseries.FieldConfig>;
  heatmap: Of<heatmap.Options, heatmap.FieldConfig>;
};
`;

/** The errors that the compiler finds in `checked`. */
function faults(checked) {
  const { panels, ...rest } = checked;
  const literal = (value) => JSON.stringify(value, null, 1);
  const lines = [PRELUDE, `export const rest: Written<Omit<Dashboard, "panels">> = ${literal(rest)};`];
  for (const panel of panels) lines.push(`export const panel${panel.id}: Panels["${panel.type}"] = ${literal(panel)};`);
  mkdirSync(folder, { recursive: true });
  const file = join(folder, "dashboard.ts");
  writeFileSync(file, lines.join("\n"));
  const options = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: [],
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
  };
  const found = ts.getPreEmitDiagnostics(ts.createProgram([file], options));
  return found.map((fault) => {
    const line = fault.file?.getLineAndCharacterOfPosition(fault.start).line ?? -1;
    const words = fault.file?.text.split("\n")[line];
    return `${ts.flattenDiagnosticMessageText(fault.messageText, "\n")}\n    at: ${words}`;
  });
}

test("the dashboard matches Grafana's schema", () => {
  assert.deepEqual(faults(dashboard), []);
});

test("the check finds what Grafana does not know", () => {
  const wrong = structuredClone(dashboard);
  const [first, second, third] = wrong.panels.filter((panel) => panel.type === "timeseries");
  wrong.graphTooltip = 7;
  first.fieldConfig.defaults.custom = { stacking: { mode: "piled" } };
  first.options.legend.placement = "left";
  second.targets[0].legend = "x";
  delete third.gridPos.h;
  const found = faults(wrong).join("\n");
  for (const word of ["graphTooltip", "piled", '"left"', '"legend": "x"', "gridPos"]) {
    assert.ok(found.includes(word), `${word} was not found in\n${found}`);
  }
});
