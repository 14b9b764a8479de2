// A small chart maker: time on x, one quantity on y, inline SVG, told apart by line style and direct labels.

const NS = "http://www.w3.org/2000/svg";

/** An SVG element with attributes and children. */
export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((c) => c !== null && c !== undefined));
  return element;
}

/** A round number of steps that covers 0..max: about `count` ticks. */
export function ticks(max, count, whole) {
  if (!(max > 0)) max = 1;
  const rough = max / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  if (whole) step = Math.max(1, Math.ceil(step));
  const top = Math.ceil(max / step - 1e-9) * step;
  const values = [];
  for (let v = 0; v <= top + step / 2; v += step) values.push(v);
  return { values, top };
}

// Lengths between ticks that read well on a clock, seconds.
const CLOCK_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

function timeTicks(from, to, count) {
  const step = (CLOCK_STEPS.find((s) => s * 1000 * count >= to - from) ?? 86400) * 1000;
  const values = [];
  for (let t = Math.ceil(from / step) * step; t <= to; t += step) values.push(t);
  return { values, step };
}

/** Time of day of the aggregator's clock, UTC; seconds only where they tell something. */
export function clockText(ms, seconds) {
  const iso = new Date(ms).toISOString();
  return iso.slice(11, seconds ? 19 : 16);
}

/** A number short enough for an axis or a label. */
export function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size >= 10000) return `${(value / 1000).toFixed(size >= 100000 ? 0 : 1)}k`;
  if (size >= 100 || Number.isInteger(value)) return value.toFixed(0);
  return value.toFixed(size >= 10 ? 1 : 2).replace(/\.?0+$/, "");
}

function path(points, x, y, step) {
  let d = "";
  let open = false;
  for (const [t, v] of points) {
    if (v === null || v === undefined) {
      open = false;
      continue;
    }
    const px = x(t).toFixed(1);
    const py = y(v).toFixed(1);
    d += open ? (step ? `H${px}V${py}` : `L${px} ${py}`) : `M${px} ${py}`;
    open = true;
  }
  return d;
}

/** Moves labels apart so that none covers another; keeps their order. */
function spread(labels, gap, low, high) {
  labels.sort((a, b) => a.y - b.y);
  for (let i = 0; i < labels.length; i += 1) {
    labels[i].y = Math.max(labels[i].y, i === 0 ? low : labels[i - 1].y + gap);
  }
  for (let i = labels.length - 1; i >= 0; i -= 1) {
    labels[i].y = Math.min(labels[i].y, i === labels.length - 1 ? high : labels[i + 1].y - gap);
  }
  return labels;
}

let patterns = 0;

/**
 * Draws one chart.
 *
 * `chart`: `{ width, height, from, to, now, max, whole, title, lines, band, area, rules, marks, gaps, showTimes }`. A line
 * is `{ key, label, name, points: [[ms, value|null]…], step }`, its label at `name`: the "start", the right "edge", or
 * where now is; the band `{ key, points: [[ms, low, high]…] }`; the area below a step line `{ key, label, points }`; a
 * rule `{ key, label, value, from, to, above }`; a mark `{ at, value, up, title }`; a gap `[from, to]`.
 */
export function draw(chart) {
  const { width, height } = chart;
  const narrow = width < 560;
  const left = 40;
  const right = narrow ? 50 : 56;
  const top = 8;
  const bottom = chart.showTimes ? 20 : 6;
  const x = (t) => left + ((t - chart.from) / (chart.to - chart.from)) * (width - left - right);
  const scale = ticks(chart.max, height > 150 ? 5 : 4, chart.whole);
  const y = (v) => top + (1 - Math.min(v, scale.top) / scale.top) * (height - top - bottom);
  // Points inside the window and the nearest one on each side of it, so that lines run to the edge.
  const around = (points) => {
    const first = points.findIndex((p) => p[0] >= chart.from);
    if (first < 0) return points.slice(-1);
    const after = points.findIndex((p) => p[0] > chart.to);
    return points.slice(Math.max(first - 1, 0), after < 0 ? points.length : after + 1);
  };
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": chart.title });

  patterns = (patterns + 1) % 1000;
  const hatch = `hatch${patterns}`;
  const clip = `clip${patterns}`;
  root.append(
    svg("defs", {},
      svg("pattern", { id: hatch, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
        svg("line", { class: `hatch h-${(chart.band ?? chart.area)?.key}`, x1: 0, y1: 0, x2: 0, y2: 6 })),
      svg("clipPath", { id: clip }, svg("rect", { x: left, y: 0, width: width - left - right, height }))),
  );
  for (const [from, to] of chart.gaps ?? []) {
    const a = Math.max(x(from), left);
    const b = Math.min(x(to), width - right);
    if (b - a > 1) root.append(svg("rect", { class: "gap", x: a, y: top, width: b - a, height: height - top - bottom }));
  }
  for (const v of scale.values) {
    root.append(
      svg("line", { class: v === 0 ? "axis" : "gridline", x1: left, x2: width - right, y1: y(v), y2: y(v) }),
      svg("text", { class: "tick", x: left - 6, y: y(v) + 4, "text-anchor": "end" }, short(v)),
    );
  }
  const times = timeTicks(chart.from, chart.to, narrow ? 4 : 8);
  for (const t of times.values) {
    root.append(svg("line", { class: "gridline", x1: x(t), x2: x(t), y1: top, y2: height - bottom }));
    if (chart.showTimes) {
      root.append(svg("text", { class: "tick", x: x(t), y: height - 5, "text-anchor": "middle" }, clockText(t, times.step < 60000)));
    }
  }

  const plot = svg("g", { "clip-path": `url(#${clip})` });
  root.append(plot);
  const labels = [];
  const filled = (key, d) => plot.append(svg("path", { class: `band b-${key}`, d }), svg("path", { d, fill: `url(#${hatch})` }));
  if (chart.band) {
    const points = around(chart.band.points);
    const upper = points.map(([t, , high]) => `${x(t).toFixed(1)} ${y(high).toFixed(1)}`);
    const lower = points.map(([t, low]) => `${x(t).toFixed(1)} ${y(low).toFixed(1)}`).reverse();
    if (points.length > 1) filled(chart.band.key, `M${upper.concat(lower).join("L")}Z`);
  }
  if (chart.area) {
    for (const piece of pieces(around(chart.area.points))) {
      const line = path(piece, x, y, true);
      if (piece.length > 1) filled(chart.area.key, `${line}V${y(0)}H${x(piece[0][0]).toFixed(1)}Z`);
    }
    const last = chart.area.points.findLast((p) => p[1] !== null);
    if (last) labels.push({ key: chart.area.key, text: chart.area.label, x: x(chart.now) + 6, y: y(last[1]), hatched: true });
  }
  for (const rule of chart.rules ?? []) {
    const a = x(rule.from ?? chart.from);
    const b = x(rule.to ?? chart.to);
    if (rule.value > scale.top) continue;
    plot.append(svg("line", { class: `line s-${rule.key}`, x1: a, x2: b, y1: y(rule.value), y2: y(rule.value) }));
    if (rule.above) labels.push({ key: rule.key, text: rule.label, x: Math.max(b, a + 4) + 4, y: y(rule.value) - 9 });
    else labels.push({ key: rule.key, text: rule.label, x: b + 6, y: y(rule.value) });
  }
  for (const line of chart.lines) {
    const points = around(line.points);
    plot.append(svg("path", { class: `line s-${line.key}`, d: path(points, x, y, line.step) }));
    const known = points.filter((p) => p[1] !== null && p[1] !== undefined);
    if (known.length === 0 || !line.label) continue;
    const last = known.at(-1);
    if (line.name === "start") {
      // Above the highest point of the line's first stretch, so that the name doesn't lie on it.
      const start = Math.max(x(known[0][0]), left);
      const highest = Math.max(...known.filter((p) => x(p[0]) < start + 110).map((p) => p[1]), known[0][1]);
      const late = start > left + (x(chart.now) - left) * 0.6;
      labels.push({ key: line.key, text: line.label, x: late ? start - 4 : start + 4, y: y(highest) - (late ? 0 : 9), before: late });
    } else if (line.name === "edge") {
      labels.push({ key: line.key, text: line.label, x: width - right + 6, y: y(valueAt(known, chart.to)) });
    } else {
      labels.push({ key: line.key, text: line.label, x: x(chart.now) + 6, y: y(last[1]), sample: true });
    }
  }
  for (const mark of chart.marks ?? []) {
    if (mark.at < chart.from || mark.at > chart.to) continue;
    const cx = x(mark.at);
    const cy = y(mark.value) + (mark.up ? -2 : 2);
    const tip = mark.up ? -6 : 6;
    root.append(svg("path", { class: "mark", d: `M${cx} ${cy + tip}l4 ${-tip}h-8Z` }, svg("title", {}, mark.title)));
  }
  if (chart.now >= chart.from && chart.now <= chart.to) {
    root.append(svg("line", { class: "now", x1: x(chart.now), x2: x(chart.now), y1: top, y2: height - bottom }));
    if (chart.nowLabel) {
      root.append(svg("text", { class: "tick halo", x: x(chart.now) - 4, y: top + 9, "text-anchor": "end" }, "now"));
    }
  }
  // Labels of one column are moved apart; columns are where labels start at the same x.
  for (const column of new Set(labels.map((l) => Math.round(l.x)))) {
    for (const label of spread(labels.filter((l) => Math.round(l.x) === column), 13, top + 6, height - bottom - 6)) {
      // Lines that run together before now are told apart here: by a piece of each.
      const piece = label.sample || label.hatched ? 24 : 0;
      if (label.sample) root.append(svg("path", { class: `line s-${label.key}`, d: `M${label.x} ${label.y}h18` }));
      if (label.hatched) {
        root.append(svg("rect", { class: `band b-${label.key}`, x: label.x, y: label.y - 5, width: 18, height: 10 }),
          svg("rect", { fill: `url(#${hatch})`, x: label.x, y: label.y - 5, width: 18, height: 10 }));
      }
      root.append(svg("text", { class: `c-${label.key} halo`, x: label.x + piece, y: label.y + 4, "text-anchor": label.before ? "end" : "start" }, label.text));
    }
  }
  return root;
}

/** The stretches of known values. */
function pieces(points) {
  const found = [[]];
  for (const p of points) {
    if (p[1] === null || p[1] === undefined) found.push([]);
    else found.at(-1).push(p);
  }
  return found.filter((piece) => piece.length > 0);
}

/** The line's height at `t`, straight between its points. */
function valueAt(points, t) {
  const after = points.findIndex((p) => p[0] >= t);
  if (after <= 0) return points[after === 0 ? 0 : points.length - 1][1];
  const [[t0, v0], [t1, v1]] = [points[after - 1], points[after]];
  return v0 + ((v1 - v0) * (t - t0)) / (t1 - t0);
}
