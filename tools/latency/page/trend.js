// First audio, or one stage, over all turns; and the list of sessions.

let drawTrend = null;

function showTrend() {
  const trend = report.trend;
  if (!trend) return void (byId("trend").hidden = true);
  const dots = `Each dot is a turn, in the order of time; the line is the rolling median of ${trend.window}. Choose a dot to see its waterfall.`;
  const band = `Each step is ${trend.each} turns in a row: the line is their median, the band reaches from p10 to p90.`;
  byId("trend-hint").textContent = `${trend.each === 1 ? dots : band} Broken lines mark where a session begins.`;
  choices(byId("trend-stage"), stageOptions(), () => drawTrend());
  drawTrend = plot(byId("trend-plot"), trendPlot);
  showSessions();
}

function trendPlot(width) {
  const trend = report.trend;
  const stage = byId("trend-stage").value;
  const { line, dots, low, high } = trend.stages[stage];
  const height = 270;
  const [left, right, top, bottom] = [52, width - 10, 30, height - 30];
  const top_ms = limit(dots ?? high);
  const x = line.length > 1 ? scale(0, line.length - 1, left + 8, right - 8) : () => (left + right) / 2;
  const y = (value) => scale(0, top_ms, bottom, top)(Math.min(value, top_ms));
  const over = (dots ?? high).filter((value) => value > top_ms).length;
  const label = `${title(stage)} over ${count(trend.n, "turn")}: from ${ms(line[0])} ms at the begin to ${ms(line.at(-1))} ms at the end (medians)`;
  return svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, css: colour(stage) },
    ...ticks(0, top_ms, 5).map((t) =>
      svg("g", {}, svg("line", { class: "grid", x1: left, x2: right, y1: y(t), y2: y(t) }), svg("text", { x: left - 6, y: y(t) + 4, "text-anchor": "end" }, tickText(t))),
    ),
    svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    ...sessionMarks(x, top, bottom, right),
    dots ? null : svg("path", { class: "area", d: `${path([...high.map((v, i) => [x(i), y(v)]), ...low.map((v, i) => [x(i), y(v)]).reverse()])}Z` }),
    svg("path", { class: "edge", d: path(line.map((value, i) => [x(i), y(value)])) }),
    svg("path", { class: "curve", d: path(line.map((value, i) => [x(i), y(value)])) }),
    ...(dots ?? []).map((value, i) => trendDot(value, i, x, y)),
    svg("text", { x: left - 6, y: height - 8, "text-anchor": "end" }, "ms"),
    svg("text", { x: right, y: height - 8, "text-anchor": "end" }, over ? `${count(over, trend.each === 1 ? "turn" : "step")} above the edge` : `${count(trend.n, "turn")}`),
  );
}

/** The upper end of the axis: a few very slow turns do not press all others to the ground. */
function limit(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const most = sorted[Math.floor(0.97 * (sorted.length - 1))];
  const max = sorted.at(-1);
  return Math.max(1e-3, max <= 2 * most ? max : 1.5 * most) * 1.05;
}

function sessionMarks(x, top, bottom, right) {
  const { session, begun_s } = report.trend;
  let free = 0;
  const marks = [];
  session.forEach((number, i) => {
    if (i && number === session[i - 1]) return;
    const at = i ? (x(i - 1) + x(i)) / 2 : x(0) - 6;
    const text = minute(begun_s[i]);
    const room = at >= free && at + 90 <= right;
    if (room) free = at + 96;
    marks.push(svg("line", { class: "session", x1: at, x2: at, y1: room ? top - 18 : top, y2: bottom }));
    if (room) marks.push(svg("text", { x: at + 4, y: top - 10 }, text));
  });
  return marks.length > 400 ? [] : marks;
}

function trendDot(value, i, x, y) {
  const turn = report.turns[report.trend.turn?.[i] ?? -1];
  const chosen = turn && turn === chosenTurn();
  const text = `${minute(report.trend.begun_s[i])}: ${ms(value, 1)} ms`;
  return svg(
    "circle",
    { class: chosen ? "dot chosen" : "dot", cx: x(i).toFixed(1), cy: y(value).toFixed(1), r: chosen ? 5.5 : 4, on: turn ? { click: () => goToTurn(turn) } : {} },
    svg("title", {}, text),
  );
}

function showSessions() {
  const shown = report.sessions.length;
  byId("sessions-hint").textContent = report.sessions_n > shown ? `The newest ${shown} of ${number(report.sessions_n)}.` : "Choose one to see its turns.";
  const rows = report.sessions.map((session, i) => sessionRow(session, i)).reverse();
  fillTable(byId("session-table"), ["session", "began", "turns", "complete", "median, ms", "slowest, ms"], rows);
}

function sessionRow(session, index) {
  const known = report.turns.some((turn) => turn.session === index);
  const name = known ? el("button", { type: "button", class: "link", on: { click: () => goToSession(index) } }, sessionName(session)) : sessionName(session);
  return { cells: [[name], minute(session.begun_s), number(session.turns), number(session.n), ms(session.p50), ms(session.max)] };
}
