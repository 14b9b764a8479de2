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

// Below this share a point sits on the lowest line, which says so.
const LEAST_SHARE = 0.0001;

/** Shares differ by factors, so their axis is logarithmic: round values that span what there is. */
function shareTicks(shares) {
  const values = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1];
  const from = Math.max(values.findLastIndex((v) => v <= Math.min(...shares)), 0);
  const to = values.findIndex((v) => v >= Math.max(...shares));
  const span = values.slice(Math.max(from - 1, 0), (to < 0 ? values.length : to + 1));
  return span.length > 7 ? span.filter((v) => /^0?\.?0*1$/.test(String(v))) : span;
}

/** The first place beside a point where its name covers neither another name nor a point. */
function placeName(x, y, text, taken, right) {
  const width = text.length * 6.8;
  const places = [[11, 4], [-11 - width, 4], [-width / 2, -11], [-width / 2, 20], [11, -9], [11, 17], [-11 - width, -9], [-11 - width, 17]];
  const boxes = places.map(([dx, dy]) => ({ left: x + dx, top: y + dy - 11, right: x + dx + width, bottom: y + dy + 3 }));
  const free = (a) => a.right < right && !taken.some((b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom);
  const box = boxes.find(free) ?? boxes[0];
  taken.push(box);
  return box;
}

function picture(runs, width) {
  const height = 250;
  const [left, right, top, bottom] = [58, 14, 20, 36];
  const across = ticks(Math.max(...runs.map((r) => r.replica_seconds)) * 1.15, width < 400 ? 3 : 5);
  const shares = runs.map((r) => Math.max(r.slow_share, LEAST_SHARE));
  const upward = shareTicks(shares);
  const [low, high] = [Math.log(upward[0]), Math.log(Math.max(upward.at(-1), ...shares))];
  const x = (v) => left + (v / across.top) * (width - left - right);
  const y = (v) => top + (1 - (Math.log(Math.max(v, LEAST_SHARE)) - low) / (high - low || 1)) * (height - top - bottom);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
    "aria-label": `Slow share against replica-seconds: ${runs.map((r) => `${nameOf(r)} ${percent(r.slow_share)} at ${short(r.replica_seconds)}`).join("; ")}` });
  for (const v of upward) {
    root.append(svg("line", { class: v === upward[0] ? "axis" : "gridline", x1: left, x2: width - right, y1: y(v), y2: y(v) }),
      svg("text", { class: "tick", x: left - 6, y: y(v) + 4, "text-anchor": "end" }, `${v <= LEAST_SHARE ? "≤ " : ""}${short(v * 100)} %`));
  }
  for (const v of across.values) {
    root.append(svg("text", { class: "tick", x: x(v), y: height - bottom + 15, "text-anchor": "middle" }, short(v)));
  }
  root.append(svg("text", { class: "tick", x: width - right, y: height - 4, "text-anchor": "end" }, "replica-seconds: further left is cheaper"),
    svg("text", { class: "tick", x: 4, y: top - 9 }, "slow requests (log scale): further down is better"));
  const hpa = runs.filter((r) => r.policy === "hpa").sort((a, b) => a.replica_seconds - b.replica_seconds);
  if (hpa.length > 1) root.append(svg("path", { class: "front", d: `M${hpa.map((r) => `${x(r.replica_seconds)} ${y(r.slow_share)}`).join("L")}` }));
  const taken = runs.map((r) => ({ left: x(r.replica_seconds) - 8, right: x(r.replica_seconds) + 8, top: y(r.slow_share) - 8, bottom: y(r.slow_share) + 8 }));
  for (const run of runs) {
    const [cx, cy] = [x(run.replica_seconds), y(run.slow_share)];
    const ours = run.policy === "prescale";
    const box = placeName(cx, cy, nameOf(run), taken, width);
    root.append(
      svg("path", { class: `dot${ours ? " ours" : ""}`, d: SHAPES[run.policy] ?? SHAPES.hpa, transform: `translate(${cx} ${cy})` }),
      svg("text", { class: `halo${ours ? " strong" : ""}`, x: box.left, y: box.bottom - 3 }, nameOf(run)));
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
