// The list of turns, and the waterfall of the chosen one.

const turnList = byId("turn-list");
const listed = { session: "all", order: "newest", turns: [], chosen: -1 };

const sessionName = (session) => session.name || "without a name";
const sessionText = (session) => `${minute(session.begun_s)} · ${sessionName(session)}`;

const kinds = {
  complete: "answered",
  typed: "typed",
  incomplete: "answered, marks are missing",
  unfinished: "unfinished",
};
const kindText = (turn) => kinds[turn.kind] ?? turn.kind;

function showTurns() {
  const sessions = report.sessions.map((session, i) => [String(i), sessionText(session)]).reverse();
  const withTurns = new Set(report.turns.map((turn) => String(turn.session)));
  const options = [["all", "all"], ...sessions.filter(([value]) => withTurns.has(value))];
  choices(byId("turn-session"), options, (value) => listTurns({ session: value }));
  byId("turn-order").addEventListener("change", (event) => listTurns({ order: event.target.value }));
  byId("turn-whole").addEventListener("change", () => showTurn());
  turnList.addEventListener("keydown", moveInList);
  turnList.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]");
    if (option) choose(Number(option.dataset.place));
  });
  byId("turns-kept").textContent = keptText();
  listTurns({});
}

function keptText() {
  const all = Object.values(report.kinds).reduce((a, b) => a + b, 0);
  if (report.turns.length === all) return `All ${count(all, "turn")}.`;
  const { newest, slowest } = report.kept;
  return `Of ${count(all, "turn")} the newest ${newest} and the ${slowest} slowest are here; figures below are of all of them.`;
}

function listTurns(change) {
  Object.assign(listed, change);
  const wanted = report.turns.filter((turn) => listed.session === "all" || String(turn.session) === listed.session);
  if (listed.order === "slowest") wanted.sort((a, b) => (b.total ?? -1) - (a.total ?? -1));
  listed.turns = wanted;
  const longest = Math.max(1, ...wanted.map((turn) => turn.total ?? 0));
  turnList.replaceChildren(...wanted.map((turn, place) => turnOption(turn, place, longest)));
  byId("turn-count").textContent = `${count(wanted.length, "turn")} in the list`;
  turnList.scrollTop = 0;
  const sounded = wanted.findIndex((turn) => turn.total !== null);
  choose(Math.max(sounded, Math.min(0, wanted.length - 1)));
}

function turnOption(turn, place, longest) {
  const words = [clock(turn.begun_s), turn.kind === "complete" ? "" : kindText(turn)].filter(Boolean);
  return el(
    "li",
    { role: "option", id: `turn-${place}`, "data-place": place, "aria-selected": "false", title: turn.heard || null },
    el("span", {}, words.join(" · ")),
    " ",
    el("b", {}, turn.total === null ? "no sound" : `${ms(turn.total)} ms`),
    turn.heard ? el("small", {}, `“${turn.heard}”`) : null,
    stack(turn.shares, longest, true),
  );
}

function moveInList(event) {
  const last = listed.turns.length - 1;
  const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -last, End: last };
  if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  choose(Math.min(last, Math.max(0, listed.chosen + moves[event.key])));
}

function choose(place) {
  turnList.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
  listed.chosen = place;
  const option = turnList.children[place];
  if (option) {
    option.setAttribute("aria-selected", "true");
    turnList.setAttribute("aria-activedescendant", option.id);
    const above = option.offsetTop - turnList.offsetTop;
    if (above < turnList.scrollTop) turnList.scrollTop = above;
    const below = above + option.offsetHeight - turnList.clientHeight;
    if (below > turnList.scrollTop) turnList.scrollTop = below;
  } else {
    turnList.removeAttribute("aria-activedescendant");
  }
  showTurn();
  drawTrend?.();
}

const chosenTurn = () => listed.turns[listed.chosen];

/** Chooses a turn wherever it is, and shows it. */
function goToTurn(turn) {
  if (!listed.turns.includes(turn)) {
    byId("turn-session").value = "all";
    listTurns({ session: "all" });
  }
  choose(listed.turns.indexOf(turn));
  byId("turns").scrollIntoView();
}

function goToSession(index) {
  byId("turn-session").value = String(index);
  listTurns({ session: String(index) });
  byId("turns").scrollIntoView();
  turnList.focus({ preventScroll: true });
}

// The waterfall

/** In the order of time, with what goes on beside the stages. */
const rowOrder = ["utterance", "endpoint", "transcription", ...names.slice(1), "storing", "speaking"];

function showTurn() {
  const turn = chosenTurn();
  if (!turn) {
    byId("turn-title").textContent = "No turn is in the list";
    byId("waterfall").replaceChildren();
    byId("turn-pale").hidden = true;
    byId("turn-facts").replaceChildren();
    return;
  }
  const sound = turn.total === null ? "no sound" : `first audio after ${ms(turn.total)} ms`;
  byId("turn-title").textContent = `${day(turn.begun_s)}, ${clock(turn.begun_s)}: ${sound}`;
  byId("waterfall").replaceChildren(waterfall(turn, byId("turn-whole").checked));
  byId("turn-pale").hidden = !byId("waterfall").querySelector(".pale");
  byId("turn-facts").replaceChildren(turnFacts(turn), ...hopList(turn));
}

function waterfall(turn, whole) {
  const [low, high] = extent(turn, whole);
  const at = scale(low, high, 0, 100);
  const axis = ticks(low, high, 4);
  const grid = () => axis.map((t) => el("i", { class: t === 0 ? "tick zero" : "tick", css: { left: `${at(t)}%` } }));
  const rows = spanNames.map((name, index) => ({ name, spans: turn.spans.filter((span) => span[0] === index) }));
  const shown = rows.filter(({ name, spans }) =>
    names.includes(name) ? true : spans.some((span) => span[2] < high && span[2] + span[3] > low),
  );
  shown.sort((a, b) => rowOrder.indexOf(a.name) - rowOrder.indexOf(b.name));
  const endpoint = turn.spans.find((span) => span[0] === names.indexOf("endpoint"));
  const silence = endpoint ? endpoint[2] + endpoint[3] : 0;
  const shares = addingUp(turn.shares, 1);
  const percents = addingUp(turn.shares.map((share) => (100 * share) / (turn.total || 1)), 1);
  const body = shown.map((row) => waterfallRow(row, at, grid, names.indexOf(row.name), shares, percents, silence));
  return el(
    "div",
    { class: "waterfall", role: "table", "aria-label": "Waterfall of the chosen turn; times in milliseconds" },
    waterfallHead(axis, at),
    ...body,
    turn.total === null ? null : waterfallSum(shares, percents),
  );
}

/** From when to when the waterfall reaches, ms after the last voiced sample. */
function extent(turn, whole) {
  const ends = turn.spans.map((span) => span[2] + span[3]);
  if (!whole && turn.total !== null) return [0, turn.total || 1];
  const low = whole ? Math.min(0, ...turn.spans.map((span) => span[2])) : 0;
  return [low, Math.max(1, turn.total ?? 0, turn.end, ...ends)];
}

function waterfallHead(axis, at) {
  const labels = axis.map((t) => el("span", { class: at(t) > 93 ? "end" : null, css: { left: `${at(t)}%` } }, tickText(t)));
  const heads = [["start", "start"], ["length", ""], ["share", ""], ["%", ""]];
  return el(
    "div",
    { class: "head", role: "row" },
    el("span", { role: "columnheader" }, "stage, ms"),
    el("span", { role: "columnheader", class: "bar", "aria-label": "when" }, ...labels),
    ...heads.map(([text, kind]) => el("span", { role: "columnheader", class: kind || null }, text)),
  );
}

/** A span as bars: pale what of it lies before the end of the silence, where it costs nothing. */
function spanBars(name, [index, daemon, start, length], silence, at) {
  const kind = index >= names.length ? "part around" : name === "unaccounted" ? "part hatched" : "part";
  const end = start + length;
  const bar = (from, to, look) =>
    el("i", {
      class: kind + look,
      css: { ...colour(name), left: `${at(from)}%`, width: `${at(to) - at(from)}%` },
      title: `${name}${daemon ? ` (${daemon})` : ""}: ${ms(start, 1)} to ${ms(end, 1)} ms`,
    });
  const middle = Math.min(end, Math.max(start, silence));
  return [middle > start ? bar(start, middle, " pale") : null, middle < end || !length ? bar(middle, end, "") : null].filter(Boolean);
}

function waterfallRow({ name, spans }, at, grid, index, shares, percents, silence) {
  const around = index < 0;
  const length = spans.reduce((sum, span) => sum + span[3], 0);
  const daemons = [...new Set(spans.map((span) => span[1]))].filter(Boolean);
  const parts = spans.flatMap((span) => spanBars(name, span, around || name === "endpoint" ? -Infinity : silence, at));
  return el(
    "div",
    { role: "row", class: spans.length ? null : "none", "data-stage": name },
    el(
      "span",
      { role: "rowheader" },
      around ? el("i", { class: "swatch", css: { "--c": "transparent" } }) : swatch(name),
      el("span", {}, name),
      daemons.length === 1 && daemons[0] !== name ? el("small", { class: "daemon" }, daemons[0]) : null,
    ),
    el("span", { role: "cell", class: "bar" }, ...grid(), ...parts),
    el("span", { role: "cell", class: "start" }, spans.length ? ms(spans[0][2], 1) : "–"),
    el("span", { role: "cell" }, spans.length ? ms(length, 1) : "–"),
    el("span", { role: "cell", class: "share" }, around ? "" : number(shares[index], 1)),
    el("span", { role: "cell" }, around ? "" : number(percents[index], 1)),
  );
}

function waterfallSum(shares, percents) {
  const sum = (values) => number(values.reduce((a, b) => a + b, 0), 1);
  return el(
    "div",
    { role: "row", class: "sum", "data-stage": "total" },
    el("span", { role: "rowheader" }, "first audio"),
    el("span", { role: "cell", class: "bar" }),
    el("span", { role: "cell", class: "start" }),
    el("span", { role: "cell" }),
    el("span", { role: "cell", class: "share" }, sum(shares)),
    el("span", { role: "cell" }, sum(percents)),
  );
}

function turnFacts(turn) {
  const session = report.sessions[turn.session];
  const tokens = turn.prompt_tokens;
  const facts = [
    ["outcome", turn.kind === "complete" ? "answered" : kindText(turn)],
    ["session", session ? sessionName(session) : null],
    ["heard", turn.heard ? `“${turn.heard}”` : turn.words === null ? null : count(turn.words, "word")],
    ["memories", turn.memories],
    ["prompt", tokens === null ? null : `${count(tokens, "token")}`],
    ["of those cached", tokens ? `${number(turn.cached_tokens ?? 0)} (${percent((turn.cached_tokens ?? 0) / tokens)})` : null],
    ["events", turn.moments.length ? turn.moments.map(([name, at]) => `${name} at ${signed(at, 0)} ms`).join(", ") : null],
    ["nobody marked", turn.missing.length ? turn.missing.join(", ") : null],
    ["request id", turn.rid],
  ].filter(([, value]) => value !== null);
  return el("dl", { class: "facts" }, ...facts.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, String(value)))));
}

function hopList(turn) {
  if (!turn.hops.length) return [];
  const items = turn.hops.map(([from, to, length]) =>
    el("li", {}, el("span", {}, `${from} → ${to}`), el("span", {}, `${ms(length, 2)} ms`)),
  );
  return [
    el("details", {}, el("summary", {}, `${count(turn.hops.length, "message")} from daemon to daemon`), el("ul", { class: "hops" }, ...items)),
  ];
}
