// The three charts of a workload: load with the forecast ahead of now, replicas, latency.

import { clockText, draw, short } from "./chart.js";
import { element, tableOf } from "./dom.js";

// Part of the width that lies ahead of now.
const AHEAD_SHARE = 0.4;
// The load takes at least this part of its chart's height.
const MOST_ABOVE = 2;
// Rows of the table beside a chart: what a screen reader can take in.
const TABLE_ROWS = 30;

const column = (rows, field, factor = 1) => rows.map((r) => [r.at_unix_ms, r[field] === null || r[field] === undefined ? null : r[field] * factor]);
const largest = (values) => values.reduce((a, b) => (b !== null && b > a ? b : a), 0);

function windowOf(detail, seconds) {
  const now = detail.now_unix_ms;
  const horizons = (detail.forecast?.at ?? []).map((p) => p.horizon_seconds);
  const ahead = Math.min(largest(horizons) || seconds * 0.1, seconds * AHEAD_SHARE);
  return { now, from: now - seconds * 1000, to: now + ahead * 1000 };
}

/** Times without a measurement: shown as grey, never as zero. */
function gapsOf(rows, from, to) {
  const gaps = [];
  let since = null;
  for (const row of rows) {
    const missing = row.load_rps === null || row.load_rps === undefined;
    if (missing && since === null) since = row.at_unix_ms;
    if (!missing && since !== null) {
      gaps.push([since, row.at_unix_ms]);
      since = null;
    }
  }
  if (since !== null) gaps.push([since, to]);
  return gaps.filter(([, b]) => b > from);
}

function put(figure, title, note, chart, head, rows) {
  const caption = element("figcaption", {}, element("h2", {}, title), element("span", {}, note));
  const open = figure.querySelector("details")?.open ?? false;
  const table = element("details", {}, element("summary", {}, "As a table"));
  table.open = open;
  if (open) table.append(element("div", { class: "scroll", tabindex: "0" }, tableOf(`${title}, newest first`, head, rows)));
  // The text of the table is built only when it is open; opening it draws at once.
  table.addEventListener("toggle", () => {
    if (table.open && !table.querySelector("table")) {
      table.append(element("div", { class: "scroll", tabindex: "0" }, tableOf(`${title}, newest first`, head, rows)));
    }
  });
  const focused = figure.contains(document.activeElement) && document.activeElement.tagName === "SUMMARY";
  figure.replaceChildren(caption, draw(chart), table);
  if (focused) figure.querySelector("summary").focus();
}

/** Draws all three; `seconds` is how far back they go. */
export function drawCharts(figures, detail, seconds) {
  const span = windowOf(detail, seconds);
  const rows = detail.timeline.filter((r) => r.at_unix_ms >= span.from - 120000);
  const width = Math.max(320, figures.load.clientWidth - 16);
  const gaps = gapsOf(rows, span.from, span.now);
  const base = { width, ...span, gaps };
  const newest = rows.slice(-TABLE_ROWS).reverse();
  const time = (r) => clockText(r.at_unix_ms, true);

  drawLoad(figures.load, detail, rows, base, newest, time);

  const wanted = column(rows, "wanted");
  const current = column(rows, "current");
  const ready = column(rows, "ready");
  const hpa = column(rows, "hpa");
  const label = (name, points) => `${name} ${points.at(-1)?.[1] ?? "–"}`;
  const marks = detail.decisions
    .filter((d) => d.to !== d.from)
    .map((d) => ({ at: d.at_unix_ms, value: d.to, up: d.to > d.from, title: `${d.from} → ${d.to}: ${d.sentence}` }));
  put(figures.replicas, "Replicas", "hatched: ready; ▲ a decision to add, ▼ to remove", {
    ...base, height: 140, whole: true, title: `Replicas: ${label("wanted", wanted)}, ${label("current", current)}, ${label("ready", ready)}`,
    max: largest([...wanted, ...current, ...hpa].map((p) => p[1])) + 1, marks,
    area: { key: "ready", label: label("ready", ready), points: ready },
    lines: [
      { key: "hpa", label: detail.hpa ? label("an HPA would", hpa) : "", points: hpa, step: true },
      { key: "current", label: label("current", current), points: current, step: true },
      { key: "wanted", label: label("wanted", wanted), points: wanted, step: true },
    ],
  }, ["Time", "Wanted", "Current", "Ready", "An HPA would"], newest.map((r) => [time(r), ...[r.wanted, r.current, r.ready, r.hpa].map((n) => String(n ?? "–"))]));

  const p99 = column(rows, "p99_seconds", 1000);
  const p50 = column(rows, "p50_seconds", 1000);
  const slo = detail.settings.slo_seconds === null || detail.settings.slo_seconds === undefined ? null : detail.settings.slo_seconds * 1000;
  const lastOf = (points) => points.findLast((p) => p[1] !== null)?.[1];
  // A burst may go far over the objective; the objective's line must stay where one can see it.
  const highest = largest([...p99].filter((p) => p[0] >= span.from).map((p) => p[1]));
  put(figures.latency, "Latency", "to the last byte, as the pods' kernel saw it", {
    ...base, height: 166, showTimes: true, max: Math.max(highest * 1.05, (slo ?? 0) * 1.25),
    title: `Latency: median ${short(lastOf(p50))} ms, 99th percentile ${short(lastOf(p99))} ms${slo === null ? "" : `, objective ${short(slo)} ms`}`,
    rules: slo === null ? [] : [{ key: "rule", label: `objective ${short(slo)}`, value: slo, to: span.now }],
    lines: [
      { key: "p99", label: `p99 ${short(lastOf(p99))} ms`, points: p99 },
      { key: "p50", label: `p50 ${short(lastOf(p50))} ms`, points: p50 },
    ],
  }, ["Time", "p50 (ms)", "p99 (ms)"], newest.map((r) => [time(r), short(ms(r.p50_seconds)), short(ms(r.p99_seconds))]));
}

const ms = (s) => (s === null || s === undefined ? null : s * 1000);

function drawLoad(figure, detail, rows, base, newest, time) {
  const load = column(rows, "load_rps");
  const last = load.findLast((p) => p[1] !== null);
  const forecast = detail.forecast;
  const at = forecast?.at ?? [];
  const origin = forecast?.origin_unix_ms ?? base.now;
  const ahead = (pick) => at.map((p) => [origin + p.horizon_seconds * 1000, pick(p.quantiles)]);
  // Starts at the last measurement, so that the eye can follow it; the first real point is the first horizon.
  const start = last ? [[last[0], last[1]]] : [];
  const median = [...start, ...ahead((q) => q[1])];
  const upper = [...start, ...ahead((q) => q[3])];
  const band = { key: "forecast", points: [...(last ? [[last[0], last[1], last[1]]] : []), ...at.map((p) => [origin + p.horizon_seconds * 1000, p.quantiles[0], p.quantiles[2]])] };
  const perPod = detail.plan?.capacity_rps_per_pod ?? null;
  const capacity = perPod === null ? [] : rows.map((r) => [r.at_unix_ms, r.ready === null || r.ready === undefined ? null : r.ready * perPod]);
  const planned = detail.plan?.planned_for_rps ?? null;
  const lead = detail.plan?.horizon_seconds ?? null;
  const rules = planned === null || lead === null ? [] : [{ key: "planned", label: `planned for ${short(planned)}`, value: planned, from: base.now, to: base.now + lead * 1000, above: true }];
  const visible = (points) => points.filter((p) => p[0] >= base.from && p[0] <= base.to).map((p) => p[1]);
  // Far more pods than the load needs must not press the load flat: their line then runs along the top and says so.
  const most = largest(visible(capacity));
  const needed = largest([...visible(load), ...visible(upper), planned ?? 0]);
  const max = Math.min(Math.max(needed, most), needed * MOST_ABOVE);
  const off = most > max ? ` (up to ${short(most)}, off the scale)` : "";
  put(figure, "Load", `requests/s; hatched: the forecast's 10–90 % band${perPod === null ? "" : `; one pod carries ${short(perPod)}`}`, {
    ...base, height: 262, showTimes: true, max: max * 1.04, nowLabel: true, band, rules,
    title: `Load ${short(last?.[1])} requests per second${planned === null ? "" : `, planned for ${short(planned)}`}`,
    lines: [
      { key: "capacity", label: capacity.length ? `what the ready pods carry${off}` : "", points: capacity, step: true, name: "start" },
      { key: "load", label: "load", points: load, name: "start" },
      { key: "upper", label: at.length ? "95 %" : "", points: upper, name: "edge" },
      { key: "median", label: at.length ? "median" : "", points: median, name: "edge" },
    ],
  }, ["Time", "Load (requests/s)"], [
    ...at.map((p) => [`in ${p.horizon_seconds} s`, `${short(p.quantiles[1])} (10 %: ${short(p.quantiles[0])}, 90 %: ${short(p.quantiles[2])}, 95 %: ${short(p.quantiles[3])})`]).reverse(),
    ...newest.map((r) => [time(r), r.load_rps === null ? "no data" : `${short(r.load_rps)}${r.censored ? " or more" : ""}`]),
  ]);
}
