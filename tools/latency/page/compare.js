// Two sets of turns, an earlier and a later one of the same kind.

const groups = { against: "asked for", half: "halves of all turns", day: "days", session: "sessions" };

function showCompare() {
  const { sets, pairs, least, at_most, tolerance } = report.compare;
  if (sets.length < 2) return void (byId("compare").hidden = true);
  byId("compare-hint").textContent =
    "How long each stage takes, and how the medians differ, B minus A. Where an interval stands, all intervals of the table hold together " +
    `with 95 %, and a stage is called faster or slower only when its interval leaves out 0; within ±${number(tolerance)} ms there ` +
    `is no difference. It takes ${least} turns of each set; of more than ${at_most} the newest are taken.`;
  const first = pairs[0] ?? { a: 0, b: 1 };
  byId("compare-a").addEventListener("change", () => offerAfter());
  byId("compare-b").addEventListener("change", () => showPair());
  const earlier = sets.map((_, i) => i).filter((i) => sets[i + 1]?.group === sets[i].group);
  offer(byId("compare-a"), earlier, first.a);
  offerAfter(first.b);
}

function setText(set) {
  if (set.group === "day") return day(set.begun_s);
  return set.group === "session" ? sessionText(set) : set.name;
}

/** Fills a select with sets in their groups. */
function offer(select, places, chosen) {
  const { sets } = report.compare;
  const option = (i) => el("option", { value: i }, `${setText(sets[i])} (${count(sets[i].n, "turn")})`);
  const kinds = [...new Set(places.map((i) => sets[i].group))];
  select.replaceChildren(
    ...kinds.map((kind) => el("optgroup", { label: groups[kind] }, ...places.filter((i) => sets[i].group === kind).map(option))),
  );
  select.value = String(chosen);
}

function offerAfter(chosen) {
  const { sets } = report.compare;
  const a = Number(byId("compare-a").value);
  const later = sets.map((_, i) => i).filter((i) => i > a && sets[i].group === sets[a].group);
  offer(byId("compare-b"), later, chosen ?? later.at(-1));
  showPair();
}

function showPair() {
  const { sets, pairs } = report.compare;
  const [a, b] = [Number(byId("compare-a").value), Number(byId("compare-b").value)];
  const tested = pairs.find((pair) => pair.a === a && pair.b === b);
  byId("compare-answer").textContent = tested
    ? `${tested.headline.replace(/\btotal\b/, title("total"))}.`
    : "Plain differences: whether they are more than chance has not been worked out for this pair.";
  const rows = [...names, "total"].map((stage) => {
    const found = tested?.rows[stage];
    const plain = (name) => [sets[a].stages[stage][name], sets[b].stages[stage][name]];
    return { stage, verdict: found?.verdict ?? "", p50: found?.p50 ?? plain("p50"), p95: found?.p95 ?? plain("p95") };
  });
  const reach = Math.max(1, ...rows.flatMap(({ p50: [from, to, ...ends] }) => [to - from, ...ends].map(Math.abs))) * 1.05;
  const heads = ["stage", "A", "B", "B − A", "interval", "p95, B − A", "interval", "verdict", `−${ms(reach)} to +${ms(reach)} ms`];
  fillTable(byId("compare-table"), heads, rows.map((row) => pairRow(row, reach)));
}

function pairRow({ stage, verdict, p50, p95 }, reach) {
  const [before, after] = p50;
  return {
    className: stage === "total" ? "total" : null,
    cells: [
      [stage === "total" ? "" : swatch(stage), title(stage)],
      ms(before, 1),
      ms(after, 1),
      ...changed(p50),
      ...changed(p95),
      el("td", {}, el("span", { class: `verdict ${verdict}` }, verdict || "–")),
      el("td", { class: "graph" }, whiskers(stage, p50, reach)),
    ],
  };
}

/** A difference and its interval as texts. */
function changed([before, after, low, high]) {
  if (before === null || after === null) return ["–", "–"];
  return [signed(after - before), low === undefined ? "–" : `${signed(low)} to ${signed(high)}`];
}

function whiskers(stage, [before, after, low, high], reach) {
  const at = (value) => `${(50 + (50 * value) / reach).toFixed(3)}%`;
  return svg(
    "svg",
    { "aria-hidden": "true", css: colour(stage) },
    svg("line", { class: "grid", x1: "0", x2: "100%", y1: "50%", y2: "50%" }),
    svg("line", { class: "axis", x1: "50%", x2: "50%", y1: "0", y2: "100%" }),
    low === undefined ? null : svg("line", { class: "interval", x1: at(low), x2: at(high), y1: "50%", y2: "50%" }),
    svg("circle", { class: "point", cx: at(after - before), cy: "50%", r: "5" }),
  );
}
