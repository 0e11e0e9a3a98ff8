// The headline, the figures of each stage and how they are distributed.

const total = report.summary.find((row) => row.stage === "total");

function showHeadline() {
  const [from, to] = report.period_s;
  byId("period").textContent = from === undefined ? "" : `${day(from)}, ${clock(from)} to ${day(from) === day(to) ? "" : `${day(to)}, `}${clock(to)}`;
  const box = byId("headline");
  const others = Object.entries(report.kinds).filter(([kind]) => kind !== "complete");
  const apart = others.map(([kind, n]) => `${number(n)} ${kinds[kind] ?? kind}`).join(", ");
  if (!total) {
    const found = apart ? `There are others: ${apart}.` : "There is no turn at all.";
    box.append(el("h2", {}, "No spoken turn was answered aloud"), el("p", { class: "hint" }, found));
    return;
  }
  const figures = [
    [total.p50, "median from the last word to the first sound of the answer"],
    [total.p90, "nine of ten answers began within this time"],
  ];
  box.append(
    el(
      "div",
      { class: "figures" },
      ...figures.map(([value, text]) => figure(value === null ? "–" : ms(value), "ms", value === null ? `p90 needs ${report.needed.p90} turns` : text)),
      figure(number(total.n), total.n === 1 ? "turn" : "turns", `in ${count(report.sessions_n, "session")}${apart ? `; apart from ${apart}` : ""}`),
    ),
    el("h2", {}, `What the mean of ${ms(total.mean)} ms is made of`),
  );
  const means = names.map((name) => report.summary.find((row) => row.stage === name).share_ms);
  const shares = addingUp(means.map((mean) => (100 * mean) / total.mean), 1);
  const items = names.map((name, i) =>
    el("li", { title: report.stages[i].meaning }, swatch(name), el("span", {}, name), el("span", {}, `${ms(means[i], 1)} ms`), el("span", {}, `${number(shares[i], 1)} %`)),
  );
  box.append(stack(means, total.mean, false), el("ul", { class: "legend" }, ...items));
}

const figure = (value, unit, text) =>
  el("div", {}, el("b", {}, value, " ", el("span", {}, unit)), el("small", {}, text));

function showLosses() {
  if (!report.sources.losses.length) return;
  const box = byId("losses");
  box.hidden = false;
  box.append(el("b", {}, "Something is missing from these figures"), el("ul", {}, ...report.sources.losses.map((line) => el("li", {}, line))));
}

function showStages() {
  if (!total) return void (byId("stages").hidden = true);
  const few = Object.entries(report.needed).filter(([name]) => total[name] === null);
  const needs = few.length ? ` A dash: too few turns (${few.map(([name, n]) => `${name} needs ${n}`).join(", ")}).` : "";
  byId("stages-hint").textContent =
    `How long each stage takes, in ms, in ${count(total.n, "complete turn")}; its share is what it alone has of the time to first ` +
    `audio, and work within the silence that ends a turn costs nothing. A bar reaches from p25 to p75, its line from p5 to p95, the stroke is the median. ` +
    `"Slowest tenth": the share within the slowest tenth of the turns.${needs}`;
  const high = Math.max(...report.summary.map((row) => row.curve[95])) * 1.02 || 1;
  const heads = ["stage", "n", "mean", "p50", "p90", "p95", "p99", "max", "share", "slowest tenth", `0 to ${ms(high)} ms`];
  fillTable(byId("stage-table"), heads, report.summary.map((row) => stageRow(row, high)));
  choices(byId("curve-stage"), stageOptions(), () => drawCurve());
  drawCurve = plot(byId("curve"), curvePlot);
}

const stageOptions = () => ["total", ...names].map((name) => [name, title(name)]);

function stageRow(row, high) {
  const digits = row.stage === "total" ? 0 : 1;
  return {
    className: row.stage === "total" ? "total" : null,
    cells: [
      [row.stage === "total" ? "" : swatch(row.stage), title(row.stage)],
      number(row.n),
      ...["mean", "p50", "p90", "p95", "p99", "max"].map((name) => ms(row[name], digits)),
      percent(row.share, 1),
      percent(row.share_slowest, 1),
      el("td", { class: "graph" }, boxPlot(row, high)),
    ],
  };
}

function boxPlot({ stage, curve }, high) {
  const x = (q) => `${((100 * curve[q]) / high).toFixed(3)}%`;
  const width = `${((100 * (curve[75] - curve[25])) / high).toFixed(3)}%`;
  return svg(
    "svg",
    { "aria-hidden": "true", css: colour(stage) },
    svg("line", { class: "grid", x1: "0", x2: "100%", y1: "50%", y2: "50%" }),
    svg("line", { class: "range", x1: x(5), x2: x(95), y1: "50%", y2: "50%" }),
    svg("rect", { class: "box", x: x(25), width, y: "25%", height: "50%", rx: "2" }),
    svg("line", { class: "halo", x1: x(50), x2: x(50), y1: "17%", y2: "83%" }),
    svg("line", { class: "median", x1: x(50), x2: x(50), y1: "17%", y2: "83%" }),
  );
}

// The distribution of one stage

let drawCurve = () => {};
let reading = 50;

function curvePlot(width) {
  const row = report.summary.find((each) => each.stage === byId("curve-stage").value);
  const { curve } = row;
  const height = 250;
  const [left, right, top, bottom] = [44, width - 14, 26, height - 34];
  // One very slow turn would press all others against the edge: it is told in words instead.
  const high = Math.max(1e-3, curve[100] <= 2.5 * curve[95] ? curve[100] : curve[99] <= 2.5 * curve[95] ? curve[99] : curve[95] * 1.5) * 1.02;
  const x = scale(0, high, left, right);
  const y = scale(0, 100, bottom, top);
  const points = [[left, bottom], [x(Math.min(curve[0], high)), bottom]];
  curve.forEach((value, q) => value <= high && points.push([x(value), y(q)]));
  const shownMax = curve[100] <= high;
  if (shownMax) points.push([right, top]);
  const cross = svg("g", {});
  const node = svg(
    "svg",
    {
      viewBox: `0 0 ${width} ${height}`, css: colour(row.stage), tabindex: "0", role: "slider",
      "aria-label": `Distribution of ${title(row.stage)}: percentile`, "aria-valuemin": "0", "aria-valuemax": "100",
    },
    ...[0, 25, 50, 75, 100].map((q) =>
      svg("g", {}, svg("line", { class: "grid", x1: left, x2: right, y1: y(q), y2: y(q) }), svg("text", { x: left - 6, y: y(q) + 4, "text-anchor": "end" }, `${q} %`)),
    ),
    ...ticks(0, high, width / 110).map((t) => svg("text", { x: x(t), y: bottom + 18, "text-anchor": "middle" }, tickText(t))),
    svg("text", { x: right, y: height - 2, "text-anchor": "end" }, shownMax ? "ms" : `ms; the slowest took ${ms(row.max)}`),
    svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    ...["p50", "p90", "p95"].filter((name) => row[name] !== null && row[name] <= high).map((name) => quantileMark(name, row[name], x, y, top, bottom)),
    svg("path", { class: "edge", d: path(points) }),
    svg("path", { class: "curve", d: path(points) }),
    cross,
  );
  const read = (q) => {
    reading = Math.min(100, Math.max(0, q));
    const at = x(Math.min(curve[reading], high));
    const text = `${reading} % within ${ms(curve[reading], 1)} ms`;
    node.setAttribute("aria-valuenow", reading);
    node.setAttribute("aria-valuetext", text);
    const end = at > (left + right) / 2;
    cross.replaceChildren(
      svg("line", { class: "reading", x1: at, x2: at, y1: y(reading), y2: bottom }),
      svg("line", { class: "reading", x1: left, x2: at, y1: y(reading), y2: y(reading) }),
      svg("text", { class: "strong", x: at + (end ? -8 : 8), y: Math.max(top + 14, Math.min(bottom - 8, y(reading) + (end ? -8 : 16))), "text-anchor": end ? "end" : "start" }, text),
    );
  };
  node.addEventListener("keydown", (event) => {
    const moves = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -100, End: 100 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    read(reading + moves[event.key]);
  });
  node.addEventListener("pointermove", (event) => {
    const box = node.getBoundingClientRect();
    const value = ((event.clientX - box.left) * (width / box.width) - left) / ((right - left) / high);
    read(curve.filter((each) => each <= value).length - 1);
  });
  read(reading);
  return node;
}

/** The names stand beside and above each other, so that none covers another. */
function quantileMark(name, value, x, y, top, bottom) {
  const at = x(value);
  const [anchor, up] = { p50: ["end", 4], p90: ["middle", 15], p95: ["start", 4] }[name];
  return svg(
    "g",
    {},
    svg("line", { class: "mark", x1: at, x2: at, y1: top - up + 2, y2: bottom }),
    svg("text", { x: at, y: top - up, "text-anchor": anchor }, name),
  );
}
