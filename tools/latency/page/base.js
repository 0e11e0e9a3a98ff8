// What all parts of the page draw with. All text goes through text nodes: no word of a trace is ever mark-up.

const report = JSON.parse(document.getElementById("data").textContent);
const names = report.stages.map((stage) => stage.name);
const spanNames = [...names, ...report.around];
const byId = (id) => document.getElementById(id);

/** An element. Attributes are set as they are; `css` holds custom properties and `on` listeners. */
function el(tag, { css = {}, on = {}, ...attributes } = {}, ...children) {
  return fill(document.createElement(tag), css, on, attributes, children);
}

function svg(tag, { css = {}, on = {}, ...attributes } = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), css, on, attributes, children);
}

function fill(node, css, on, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(name, value);
  for (const [name, value] of Object.entries(css)) node.style.setProperty(name, value);
  for (const [name, listener] of Object.entries(on)) node.addEventListener(name, listener);
  node.append(...children.filter((child) => child !== null));
  return node;
}

const colour = (stage) => ({ "--c": `var(--${stage})` });
const swatch = (stage) =>
  el("i", { class: stage === "unaccounted" ? "swatch hatched" : "swatch", css: colour(stage), "aria-hidden": "true" });

/** How a stage is called on the page. */
const title = (stage) => (stage === "total" ? "first audio" : stage);

// Numbers and times

const fixed = [0, 1, 2].map(
  (digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }),
);
const number = (value, digits = 0) => fixed[digits].format(value);
const ms = (value, digits = 0) => (value === null ? "–" : number(value, digits));
const percent = (share, digits = 0) => `${number(100 * share, digits)} %`;
const signed = (value, digits = 1) => {
  const text = number(Math.abs(value), digits);
  return Number(text) === 0 ? text : (value > 0 ? "+" : "−") + text;
};
const count = (n, word) => `${number(n)} ${word}${n === 1 ? "" : "s"}`;

const when = (seconds, style) => new Intl.DateTimeFormat("en-GB", style).format(new Date(seconds * 1000));
const day = (seconds) => when(seconds, { day: "numeric", month: "short", year: "numeric" });
const clock = (seconds) => when(seconds, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minute = (seconds) => when(seconds, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

/** The values with `digits` digits, rounded so that they still add up to their rounded sum (largest remainder). */
function addingUp(values, digits) {
  const unit = 10 ** digits;
  const floors = values.map((value) => Math.floor(value * unit + 1e-9));
  const sum = Math.round(values.reduce((a, b) => a + b, 0) * unit);
  const left = sum - floors.reduce((a, b) => a + b, 0);
  const order = values.map((value, i) => [value * unit - floors[i], i]).sort((a, b) => b[0] - a[0]);
  for (const [, i] of order.slice(0, left)) floors[i] += 1;
  return floors.map((floor) => floor / unit);
}

// Scales

/** About `wanted` round numbers in [low, high]. */
function ticks(low, high, wanted) {
  const rough = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high * (1 + 1e-9); at += 1) found.push(at * step);
  return found;
}

const scale = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);
const tickText = (value) => number(value, Number.isInteger(value) ? 0 : Math.abs(value) < 0.1 ? 2 : 1);

/** A line through points, as the `d` of a path. */
const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");

const redraws = [];

/** Draws a plot into `box` at the box's width, and again when that changes. Returns a function that redraws it. */
function plot(box, draw) {
  let width = 0;
  const redraw = () => box.replaceChildren(draw((width = Math.max(240, box.clientWidth))));
  redraws.push(() => box.clientWidth && box.clientWidth !== width && redraw());
  redraw();
  return redraw;
}
addEventListener("resize", () => redraws.forEach((redraw) => redraw()));

/** Fills a select with [value, text] and calls `changed` whenever another one is chosen. */
function choices(select, options, changed) {
  select.replaceChildren(...options.map(([value, text]) => el("option", { value }, text)));
  select.addEventListener("change", () => changed(select.value));
}

/** The stacked bar of a turn's or a mean's parts; `whole` is what its full width stands for. */
function stack(parts, whole, thin) {
  const pieces = names.map((name, i) =>
    parts[i] > 0
      ? el("i", {
          class: name === "unaccounted" ? "hatched" : null,
          css: { ...colour(name), width: `${(100 * parts[i]) / whole}%` },
        })
      : null,
  );
  return el("div", { class: thin ? "stack thin" : "stack", "aria-hidden": "true" }, ...pieces);
}

/** A table's head and body: titles, and rows of cells that are nodes or texts; the first of a row is its heading. */
function fillTable(table, titles, rows) {
  const head = el("tr", {}, ...titles.map((text) => el("th", { scope: "col" }, text)));
  const body = rows.map(({ cells, className = null }) =>
    el("tr", { class: className }, ...cells.map((cell, i) => asCell(cell, i))),
  );
  table.replaceChildren(el("thead", {}, head), el("tbody", {}, ...body));
}

function asCell(cell, column) {
  if (cell instanceof HTMLTableCellElement) return cell;
  const parts = Array.isArray(cell) ? cell : [cell];
  return column ? el("td", {}, ...parts) : el("th", { scope: "row" }, ...parts);
}
