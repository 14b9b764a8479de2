// The end of a demo: every policy's slow share against what its replicas cost, as a picture, a table and a sentence.

import { short, svg, ticks } from "./chart.js";
import { element, replace, tableOf } from "./dom.js";

const nameOf = (run) => {
  if (run.policy === "prescale") return "Prescale";
  if (run.policy === "hpa") return `HPA at ${short(run.target <= 1 ? run.target * 100 : run.target)} %`;
  return run.policy === "static" ? `static${run.target ? `, ${short(run.target)}` : ""}` : run.policy;
};
const percent = (share) => `${(share * 100).toFixed(share < 0.001 ? 3 : share < 0.1 ? 2 : 1)} %`;
const relative = (a, b) => `${a >= b ? "+" : "−"}${Math.abs((a / b - 1) * 100).toFixed(0)} %`;

/** What each rival did beside Prescale, said plainly, also where the rival is better. */
function verdicts(runs) {
  const ours = runs.find((r) => r.policy === "prescale");
  if (!ours) return [];
  return runs.filter((r) => r !== ours).map((rival) => {
    const cheaper = ours.replica_seconds <= rival.replica_seconds;
    const faster = ours.slow_share <= rival.slow_share;
    const cost = `${relative(ours.replica_seconds, rival.replica_seconds)} replica-seconds`;
    const slow = `${percent(ours.slow_share)} slow against ${percent(rival.slow_share)}`;
    let who = "a trade: ";
    if (cheaper && faster) who = "Prescale is better in both: ";
    else if (!cheaper && !faster) who = `${nameOf(rival)} is better in both: `;
    else if (faster) who = "Prescale is faster and costs more: ";
    else who = "Prescale costs less and is slower: ";
    return element("li", {}, element("b", {}, `Against ${nameOf(rival)}: `), `${who}${slow}, ${cost}.`);
  });
}

// Shapes, so that policies are told apart without colour and without their labels.
const SHAPES = { prescale: "M0 -7L7 0L0 7L-7 0Z", hpa: "M-5 -5H5V5H-5Z", static: "M0 -6L6 5H-6Z" };

function picture(runs, width) {
  const height = 230;
  const [left, right, top, bottom] = [58, 20, 14, 36];
  const across = ticks(Math.max(...runs.map((r) => r.replica_seconds)) * 1.18, 5);
  const upward = ticks(Math.max(...runs.map((r) => r.slow_share), 0.001) * 1.12, 4);
  const x = (v) => left + (v / across.top) * (width - left - right);
  const y = (v) => top + (1 - v / upward.top) * (height - top - bottom);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
    "aria-label": `Slow share against replica-seconds: ${runs.map((r) => `${nameOf(r)} ${percent(r.slow_share)} at ${short(r.replica_seconds)}`).join("; ")}` });
  for (const v of upward.values) {
    root.append(svg("line", { class: v === 0 ? "axis" : "gridline", x1: left, x2: width - right, y1: y(v), y2: y(v) }),
      svg("text", { class: "tick", x: left - 6, y: y(v) + 4, "text-anchor": "end" }, percent(v).replace(/\.0+ /, " ").replace(/(\.\d)0 /, "$1 ")));
  }
  for (const v of across.values) {
    root.append(svg("text", { class: "tick", x: x(v), y: height - bottom + 15, "text-anchor": "middle" }, short(v)));
  }
  root.append(svg("text", { class: "tick", x: width - right, y: height - 4, "text-anchor": "end" }, "replica-seconds (fewer is cheaper) →"),
    svg("text", { class: "tick", x: left, y: top - 3 }, "↑ slow requests"));
  const hpa = runs.filter((r) => r.policy === "hpa").sort((a, b) => a.replica_seconds - b.replica_seconds);
  if (hpa.length > 1) root.append(svg("path", { class: "front", d: `M${hpa.map((r) => `${x(r.replica_seconds)} ${y(r.slow_share)}`).join("L")}` }));
  for (const run of runs) {
    const [cx, cy] = [x(run.replica_seconds), y(run.slow_share)];
    const flip = cx > width - 130;
    root.append(
      svg("path", { class: `dot${run.policy === "prescale" ? " ours" : ""}`, d: SHAPES[run.policy] ?? SHAPES.hpa, transform: `translate(${cx} ${cy})` }),
      svg("text", { class: "halo", x: cx + (flip ? -11 : 11), y: cy - 7, "text-anchor": flip ? "end" : "start" }, nameOf(run)));
  }
  return root;
}

/** Shows the finished runs; nothing before the first. */
export function drawComparison(section, comparison) {
  const runs = comparison?.runs ?? [];
  section.hidden = runs.length === 0;
  if (runs.length === 0) return;
  const title = element("h2", { id: "comparison-title" }, `The same seeded load under each policy${comparison.seed === undefined ? "" : ` (seed ${comparison.seed})`}`);
  const width = Math.max(300, Math.min(620, (section.clientWidth - 50) / (section.clientWidth > 800 ? 2.1 : 1)));
  const rows = runs.map((r) => [nameOf(r), percent(r.slow_share), short(r.p99_ms), short(r.replica_seconds), r.scale_events]);
  const table = tableOf("Slow: over the stated objective, or failed. Replica-seconds: real, from process start to exit.",
    ["Policy", "Slow", "p99 (ms)", "Replica-s", "Changes"], rows, (r) => (r[0] === "Prescale" ? "ours" : null));
  replace(section, title, element("div", { class: "two" },
    element("div", {}, table, element("ul", {}, verdicts(runs))), element("div", {}, picture(runs, width))));
}
