// The page's loop: asks the aggregator once a second, keeps what it heard, and redraws.

import { clockText, short } from "./chart.js";
import { drawCharts } from "./charts.js";
import { drawComparison } from "./comparison.js";
import { drawAgents, drawDecisions, drawHeadline, drawPods, drawRefusals, drawScores, drawWeights, drawWhy, lengthText } from "./panels.js";

const ASK_EVERY_MS = 1000;
// Longer than a slow answer, shorter than a person's patience.
const GIVE_UP_MS = 4000;
// How long an answer may be old before the page says so.
const SAY_STALE_MS = 5000;
const RANGES = [["5 min", 300], ["15 min", 900], ["1 h", 3600], ["6 h", 21600]];

const byId = (id) => document.getElementById(id);
const state = { chosen: null, range: null, paused: false, list: null, detail: null, comparison: null, heardAt: null, failure: null };

async function ask(path) {
  const response = await fetch(path, { signal: AbortSignal.timeout(GIVE_UP_MS), cache: "no-store" });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

const pathOf = (w) => `${encodeURIComponent(w.namespace)}/${encodeURIComponent(w.name)}`;

async function refresh() {
  try {
    const list = await ask("api/v1/workloads");
    const wanted = decodeURIComponent(location.hash.replace(/^#\/?/, ""));
    const chosen = list.workloads.find((w) => `${w.namespace}/${w.name}` === wanted) ?? list.workloads[0] ?? null;
    const [detail, comparison] = await Promise.all([
      chosen ? ask(`api/v1/workloads/${pathOf(chosen)}?timeline_seconds=${(state.range ?? 3600) + 120}`) : null,
      ask("api/v1/comparison"),
    ]);
    Object.assign(state, { list, chosen, detail, comparison, heardAt: performance.now(), failure: null });
  } catch (error) {
    state.failure = error;
  }
}

function drawHeader() {
  const nav = byId("workloads");
  const links = state.list.workloads.map((w) => {
    const link = document.createElement("a");
    link.href = `#/${w.namespace}/${w.name}`;
    link.textContent = `${w.namespace}/${w.name}`;
    if (state.chosen && w.namespace === state.chosen.namespace && w.name === state.chosen.name) link.setAttribute("aria-current", "page");
    return link;
  });
  // Replaced only when it changed, so that the keyboard's focus stays.
  const key = links.map((l) => l.outerHTML).join();
  if (nav.dataset.key !== key) {
    nav.replaceChildren(...links);
    nav.dataset.key = key;
  }
  const now = state.list.now_unix_ms;
  const day = new Date(now).toLocaleDateString("en-GB", { weekday: "short", day: "numeric", month: "short", timeZone: "UTC" });
  byId("clock").textContent = `${day} ${clockText(now, true)} UTC`;
  byId("speed").textContent = state.list.clock_speed > 1 ? `clock × ${short(state.list.clock_speed)}` : "";
}

function sayBanner() {
  const banner = byId("banner");
  let text = "";
  if (state.failure) {
    const since = state.heardAt === null ? null : performance.now() - state.heardAt;
    if (since === null) text = `The aggregator does not answer (${state.failure.message}).`;
    else if (since > SAY_STALE_MS) text = `The aggregator has not answered for ${Math.round(since / 1000)} s; what you see is old.`;
  }
  if (!text && state.list?.target && !state.list.target.up) {
    text = `The target has not answered for ${lengthText(state.list.target.down_seconds)}: nothing can be changed, what is known of pods is old.`;
  }
  if (!text && state.detail?.warning) text = state.detail.warning;
  // The element announces itself to screen readers when its text changes: not every second.
  const spoken = text.replace(/\d+(\.\d+)?/g, "#");
  banner.hidden = text === "";
  if (banner.dataset.spoken !== spoken || state.failure) banner.textContent = text;
  banner.dataset.spoken = spoken;
}

function draw() {
  if (!state.list) return;
  drawHeader();
  const empty = state.list.workloads.length === 0;
  byId("empty").hidden = !empty;
  byId("empty").textContent = "No workload has opted in yet. As soon as the target names one, it appears here.";
  byId("workload").hidden = empty;
  byId("refusals").hidden = state.list.refusals.length === 0;
  drawRefusals(byId("refused"), state.list, state.chosen);
  if (state.detail) {
    const detail = state.detail;
    document.title = `${detail.replicas.wanted ?? "–"} × ${detail.name} · Prescale`;
    if (state.range === null) setRange(state.list.clock_speed >= 10 ? 3600 : 900);
    drawHeadline(byId("headline"), detail);
    drawCharts({ load: byId("load"), replicas: byId("replicas"), latency: byId("latency") }, detail, state.range);
    byId("why-title").textContent = `Why ${detail.replicas.wanted ?? "…"}?`;
    drawWhy(byId("why"), detail);
    drawDecisions(byId("decisions"), detail);
    drawWeights(byId("weights"), detail);
    drawScores(byId("scores"), detail);
    drawPods(byId("pods"), detail);
    drawAgents(byId("agents"), state.list);
  }
  drawComparison(byId("comparison"), state.comparison);
}

function setRange(seconds) {
  state.range = seconds;
  for (const button of byId("ranges").children) button.setAttribute("aria-pressed", String(Number(button.value) === seconds));
}

function addControls() {
  for (const [label, seconds] of RANGES) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: label, value: String(seconds) });
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      setRange(seconds);
      turn();
    });
    byId("ranges").append(button);
  }
  byId("pause").addEventListener("click", () => {
    state.paused = !state.paused;
    byId("pause").setAttribute("aria-pressed", String(state.paused));
    byId("pause").textContent = state.paused ? "Paused" : "Pause";
  });
  addEventListener("hashchange", () => turn());
  addEventListener("resize", draw);
}

async function turn() {
  await refresh();
  draw();
  sayBanner();
}

async function run() {
  addControls();
  for (;;) {
    if (!state.paused && !document.hidden) await turn();
    await new Promise((wake) => setTimeout(wake, ASK_EVERY_MS));
  }
}

run();
