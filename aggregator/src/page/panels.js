// What stands beside the charts: now, why, decisions, weights, pods, agents.

import { clockText, short, svg } from "./chart.js";
import { element, replace, tableOf } from "./dom.js";

const known = (v) => v !== null && v !== undefined;
const milliseconds = (s) => (known(s) ? `${short(s * 1000)} ms` : "–");

/** A length of time as a person says it. */
export function lengthText(seconds) {
  if (!known(seconds)) return "never";
  if (seconds < 1) return "under 1 s";
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function number(value, unit, label) {
  return element("div", { class: "number" }, element("b", {}, value, unit ? element("small", {}, ` ${unit}`) : null), element("span", {}, label));
}

const ANOMALIES = { flood: "many times the usual", synthetic: "as a generator sends it", fault: "the measuring is in doubt" };

/** What there is to say of the load now, the most important first. */
function loadText({ load, anomaly, regime }) {
  if (load.censored) return "load, or more: saturated";
  if (anomaly) return `load now: ${ANOMALIES[anomaly.reason]}`;
  if (load.burst) return "load now: a burst";
  return regime ? `load now; ${regime}` : "load now";
}

/** The line of numbers that one looks at first. */
export function drawHeadline(parent, detail) {
  const { load, latency } = detail;
  const { wanted, current, ready } = detail.replicas;
  const planned = detail.plan?.planned_for_rps;
  replace(parent,
    number(short(load.load_rps), "requests/s", loadText(detail)),
    number(short(planned), "requests/s", known(detail.plan?.horizon_seconds) ? `planned for, next ${lengthText(detail.plan.horizon_seconds)}` : "planned for"),
    number(`${wanted ?? "–"}`, "", "replicas wanted"),
    number(`${ready ?? "–"}`, `of ${current ?? "–"}`, "ready"),
    number(milliseconds(latency?.p99_seconds), "", known(detail.settings.slo_seconds) ? `p99; objective ${milliseconds(detail.settings.slo_seconds)}` : "p99"),
    element("p", { class: "sentence" }, detail.sentence ?? ""));
}

/** Each limiter in order, with the number before and after it. */
export function drawWhy(parent, detail) {
  const steps = detail.plan?.limiters ?? [];
  if (steps.length === 0) {
    replace(parent, element("p", { class: "quiet" }, "No plan yet."));
    return;
  }
  const gate = detail.plan.gate ? element("p", { class: "gate" }, `Not carried out. ${detail.plan.gate.sentence}`) : null;
  replace(parent, gate, element("ol", { class: "steps" }, steps.map((step, i) => {
    const changed = i > 0 && step.from !== step.to;
    const last = i === steps.length - 1 ? " last" : "";
    return element("li", { class: (i === 0 ? "first" : changed ? "changed" : "same") + last },
      element("span", { class: "to" }, String(step.to)), element("span", {}, step.sentence));
  })));
}

/** The last decisions, newest first. */
export function drawDecisions(parent, detail) {
  if (detail.decisions.length === 0) {
    replace(parent, element("p", { class: "quiet" }, "None yet: the replicas have been right so far, or nothing may be changed."));
    return;
  }
  const items = [...detail.decisions].reverse().map((d) => {
    const failed = d.outcome && d.outcome !== "applied";
    const arrow = d.to > d.from ? "▲" : d.to < d.from ? "▼" : "=";
    return element("li", failed ? { class: "failed" } : {},
      element("span", { class: "quiet" }, clockText(d.at_unix_ms, true)),
      element("b", {}, `${arrow} ${d.from} → ${d.to}`),
      element("span", {}, d.sentence, failed ? element("b", {}, ` (${d.outcome})`) : null));
  });
  replace(parent, element("ol", { class: "decisions", tabindex: "0", "aria-label": "Decisions, newest first" }, items));
}

// Columns that fit beside each other; the table of a screen reader needs no more either.
const WEIGHT_COLUMNS = 4;

/** A few of the targets: the one that is planned for first, then spread over how far ahead. */
function chosenTargets(detail, rows) {
  const planned = (w) => w.max_over && w.horizon_seconds === detail.plan?.horizon_seconds;
  const ahead = rows.filter((w) => !w.max_over).sort((a, b) => a.horizon_seconds - b.horizon_seconds);
  const room = WEIGHT_COLUMNS - 1;
  const spread = ahead.length <= room ? ahead : Array.from({ length: room }, (_, i) => ahead[Math.round((i * (ahead.length - 1)) / (room - 1))]);
  return [...rows.filter(planned).slice(0, 1), ...spread];
}

const targetText = (w) => `${w.max_over ? "max " : ""}${lengthText(w.horizon_seconds)}`;

/** Weights of the experts per horizon, as bars and as numbers. */
export function drawWeights(parent, detail) {
  const weights = chosenTargets(detail, detail.weights);
  if (weights.length === 0) {
    replace(parent, element("p", { class: "quiet" }, "No forecast has been scored yet."));
    return;
  }
  const names = [...new Set(weights.flatMap((w) => w.models.map((m) => m.name)))];
  const head = ["Expert", ...weights.map(targetText)];
  const rows = names.map((name) => [name.replaceAll("_", " "), ...weights.map((w) => {
    const model = w.models.find((m) => m.name === name);
    if (!model) return "–";
    if (!model.awake) return element("span", { class: "quiet", title: "too little history yet" }, "asleep");
    const bar = svg("svg", { class: "bar-of", viewBox: "0 0 30 6", "aria-hidden": "true" },
      svg("rect", { x: 0, y: 5, width: 30, height: 1, class: "bar-rest" }),
      svg("rect", { x: 0, y: 0, width: (30 * model.weight).toFixed(1), height: 6, class: "bar-part" }));
    return element("span", {}, `${Math.round(model.weight * 100)} %`, bar);
  })]);
  replace(parent, tableOf("Each expert's share of the forecast's median, by how far ahead", head, rows));
}

/** What the forecasts have lost beside the last value, and how often their upper quantile held. */
export function drawScores(parent, detail) {
  const scores = chosenTargets(detail, detail.scores);
  if (scores.every((s) => s.settled === 0)) {
    replace(parent, element("p", { class: "quiet" }, "No forecast has come due yet."));
    return;
  }
  const ratio = (v) => (known(v) ? v.toFixed(2) : "–");
  const share = (v) => (known(v) ? `${Math.round(v * 100)} %` : "–");
  const names = [...new Set(scores.flatMap((s) => s.models.map((m) => m.name)))];
  const rows = [
    ["issued", ...scores.map((s) => ratio(s.loss_ratio))],
    ...names.map((name) => [name.replaceAll("_", " "), ...scores.map((s) => ratio(s.models.find((m) => m.name === name)?.loss_ratio))]),
    ["95 % held", ...scores.map((s) => share(s.q95_coverage))],
    ["10–90 % held", ...scores.map((s) => share(s.band_coverage))],
  ];
  replace(parent, tableOf("Loss in those of the last value (below 1 is better), and outcomes within the quantiles", ["Forecast", ...scores.map(targetText)], rows));
}

const PHASES = { starting: "◔ starting", ready: "● ready", terminating: "◌ leaving" };

/** The pods, with what was last measured on them. */
export function drawPods(parent, detail) {
  if (detail.pods.every((p) => p.phase === null)) {
    replace(parent, element("p", { class: "quiet" }, "No pod exists."));
    return;
  }
  const pods = detail.pods.filter((p) => p.phase !== null).sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  const state = (p) => {
    if (p.state === "not_measurable") return `⚠ not measured: ${p.state_reason.replaceAll("_", " ")}`;
    return PHASES[p.phase] + (p.state === "waiting" ? ", not measured yet" : p.censored ? ", saturated" : "");
  };
  const rows = pods.map((p) => [p.name, state(p), short(p.load_rps), String(p.in_flight), known(p.p99_seconds) ? short(p.p99_seconds * 1000) : "–"]);
  const table = tableOf("Requests/s, requests in flight, p99 in ms", ["Pod", "Phase", "Load", "In flight", "p99"], rows);
  replace(parent, element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Pods" }, table));
}

/** How fresh each node's reports are. */
export function drawAgents(parent, list) {
  if (list.nodes.length === 0) {
    replace(parent, element("p", { class: "quiet" }, "No agent has reported. Without reports every workload holds."));
    return;
  }
  const rows = list.nodes.map((n) => [n.node, known(n.age_seconds) ? `${lengthText(n.age_seconds)} ago` : "only what was refused", n.stale ? "⚠ stale: nothing shrinks" : "fresh"]);
  replace(parent, tableOf("Last report of each node's agent", ["Node", "Reported", "State"], rows, (r) => (r[2] === "fresh" ? null : "failed")));
}

// As many as a person reads; the API has the rest.
const MOST_REFUSALS = 20;

/** What annotations ask for and is not done: the chosen workload's first, then the others', also of such as are not taken on. */
export function drawRefusals(parent, list, chosen) {
  const own = (r) => chosen !== null && r.namespace === chosen.namespace && r.name === chosen.name;
  const ordered = [...list.refusals.filter(own), ...list.refusals.filter((r) => !own(r))];
  const more = ordered.length - MOST_REFUSALS;
  replace(parent,
    element("ul", {}, ordered.slice(0, MOST_REFUSALS).map((r) => element("li", {}, element("b", {}, `${r.kind} ${r.namespace}/${r.name} `), r.sentence))),
    more > 0 ? element("p", { class: "quiet" }, `and ${more} more`) : null);
}
