"use strict";
// Draws what the page holds as data: the table of cases, sortable and filtered, and the section of a case when it is opened.
// Everything from the data goes into the page as text: nothing in it can become markup.

const OPEN = 3; // sections that stand open when the page is opened
const ROWS = 500; // rows of the table of cases that stand before a click: a browser takes long to lay out thousands
const PRINTED = 200; // cases that printing opens; of more, those that stand open are printed
const UNITS = [[2 ** 30, "GiB", 3], [2 ** 20, "MiB", 1], [2 ** 10, "KiB", 1]];

let lines = []; // JSON: the table, then a section a case
let head; // { heads, rows, alike, notes, cases } of the first line
let rows = []; // of the table of cases, in the order shown; each has its cells as `data`
let most = ROWS;
const byId = (id) => document.getElementById(id);

function size(bytes) { // as format_bytes of profiler/data/units.py; a half is rounded to the even digit, as Python does
  const [unit, name, digits] = UNITS.find(([least]) => Math.abs(bytes) >= least) ?? [1, "B", 0];
  const parts = bytes / unit * 10 ** digits;
  const whole = Math.abs(parts % 1) === 0.5 ? 2 * Math.round(parts / 2) : Math.round(parts);
  return `${(whole / 10 ** digits).toFixed(digits)} ${name}`;
}

const exact = (bytes) => `${bytes.toLocaleString("en")} B`;
const bare = (cell) => Array.isArray(cell) ? cell[0] : cell;
const number = (cell) => typeof bare(cell) === "number" ? bare(cell) : null;

function make(prototype, tag, attributes, children) {
  const node = document.createElementNS(prototype.namespaceURI, tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== false) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
const html = (tag, attributes = {}, ...children) => make(document.body, tag, attributes, children);
const svg = (tag, attributes = {}, ...children) => make(byId("drawing"), tag, attributes, children);

function mark(note) {
  return html("sup", {}, html("a", { href: `#n${note}`, title: head.notes[note - 1] }, String(note)));
}

function contents(cell, show = size) { // a text, bytes, or a list of one of these, a second line and a footnote
  if (cell === null) return [];
  const [content, detail, note] = Array.isArray(cell) ? cell : [cell];
  const text = typeof content === "number" ? show(content) : content;
  const small = detail ? [html("small", {}, detail)] : [];
  return [text === "unknown" ? html("i", {}, text) : text, ...small, ...(note ? [mark(note)] : [])];
}

const scroll = (label, made) => html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, made);

function table(style, caption, heads, rows, show = size) {
  const first = style === "size" ? "td" : "th"; // a size is no heading of its row
  const cell = (tag, head, content) => html(tag, { "data-head": tag === "td" ? head : null }, ...contents(content, show));
  return scroll(caption || heads[0], html("table", { class: `${style} cards` },
    ...(caption ? [html("caption", {}, caption)] : []),
    html("thead", {}, html("tr", {}, ...heads.map((text) => html("th", { scope: "col" }, text)))),
    html("tbody", {}, ...rows.map((cells) => html("tr", {}, ...cells.map((content, n) => cell(n ? "td" : first, heads[n], content)))))));
}

// The waterfall: bars are linear and add up, dots stand on a logarithmic axis, numbers at the right.
const LEFT = 72, WIDTH = 172, TOP = 18, DOTS = 258, END = 326;
const power = (at) => size(2 ** at).replace(/\.0+/, "");

function shown(cell) {
  if (number(cell) === null) return "unknown";
  return Array.isArray(cell) && cell[1] || size(number(cell));
}

function waterfall(title, steps, id) { // steps: { name, role, estimated, measured }
  const pair = (step) => [number(step.estimated), number(step.measured)];
  const sizes = steps.flatMap(pair).filter((bytes) => bytes > 0);
  const phases = steps[0].role !== "latent"; // of a whole generation: each bar stands by itself
  const whole = Math.max(...sizes), latent = !phases && number(steps[0].estimated) || 0;
  const low = Math.max(Math.floor(Math.log2(Math.min(...sizes)) - 0.1), 0);
  const high = Math.max(Math.ceil(Math.log2(whole) + 0.1), low + 2);
  const dot = (bytes, y) => `M${(DOTS + (Math.log2(bytes) - low) / (high - low) * (END - DOTS)).toFixed(1)} ${y + 4.5}h0`;
  const bar = (start, bytes, y) => { const wide = Math.max(bytes / whole * WIDTH, 1); return `M${LEFT + start / whole * WIDTH} ${y}h${wide}v9h-${wide}z`; };
  const lanes = ["estimated", "measured"].filter((side) => steps.slice(phases ? 0 : 1).some((step) => number(step[side]) !== null));
  const height = 13 * Math.max(lanes.length, 1) + 6, bottom = TOP + steps.length * height;
  const numbers = (texts) => svg("g", { class: "num", transform: "translate(400)" }, ...texts.map(([y, text]) => svg("text", { y }, text)));

  const layers = lanes.map((side, lane) => {
    const paths = { term: "", total: "", dots: "" }, texts = [];
    let end = 0; // of the terms so far: a term starts there, a total at 0
    steps.forEach((step, n) => {
      if (step.role === "latent") return;
      const bytes = number(step[side]), y = TOP + n * height + 13 * lane + 4;
      texts.push([y + 8, shown(step[side])]);
      if (bytes === null) return;
      const start = phases || step.role === "total" ? 0 : end;
      end = start + bytes;
      if (bytes > 0) { paths[step.role] += bar(start, bytes, y); paths.dots += dot(bytes, y); }
    });
    return svg("g", { class: side }, svg("path", { d: paths.term }), svg("path", { class: "total", d: paths.total }),
      svg("path", { class: "dot", d: paths.dots }), numbers(texts));
  });

  const y = TOP + height / 2 - 4.5;
  const widest = steps.find((step) => pair(step).includes(whole)).name;
  const first = svg("g", { class: "latent" }, ...phases ? [] : [numbers([[y + 8, shown(steps[0].estimated)]])]);
  if (latent) first.prepend(svg("path", { d: bar(0, latent, y) }), svg("path", { class: "dot", d: dot(latent, y) }));
  if (latent && latent < whole / 50) {
    first.append(svg("text", { class: "share", x: LEFT + 5 + Math.max(latent / whole * WIDTH, 1), y: y + 8 }, `1/${Math.round(whole / latent).toLocaleString("en")} of ${widest}`));
  }
  const totals = steps.filter((step) => phases || step.role === "total").map((step) => [step.name, number(step.measured) ?? number(step.estimated)]);
  const said = totals.filter(([, bytes]) => bytes !== null).map(([name, bytes]) => `${name} ${size(bytes)}`).join(", ");
  const tick = (x, at, anchor, text) => svg("text", { x, y: at, "text-anchor": anchor }, text);
  return svg("svg", { class: "chart waterfall", viewBox: `0 0 400 ${bottom + 20}`, role: "img", "aria-labelledby": `${id}t ${id}d` },
    svg("title", { id: `${id}t` }, phases ? `${title}, phase by phase` : `Waterfall of ${title}, latent to device bytes`),
    svg("desc", { id: `${id}d` }, `${said || "no total is known"}.`),
    svg("path", { class: "sum", d: steps.map(({ role }, n) => role === "total" ? `M0 ${TOP + n * height}h400v${height}H0z` : "").join("") }),
    svg("path", { class: "grid", d: [LEFT, LEFT + WIDTH, DOTS, END].map((x) => `M${x} 16V${bottom}`).join("") }),
    ...layers, first,
    svg("g", {}, ...steps.map(({ name, role }, n) => svg("text", { class: role === "total" && !phases && "total", y: TOP + (n + 0.5) * height + 3.5 }, name))),
    svg("g", { class: "tick" }, tick(LEFT, 10, "start", phases ? "linear" : "linear, terms add up"), tick((DOTS + END) / 2, 10, "middle", "log"),
      tick(LEFT, bottom + 14, "start", "0"), tick(LEFT + WIDTH, bottom + 14, "end", size(whole)),
      tick(DOTS, bottom + 14, "start", power(low)), tick(END, bottom + 14, "end", power(high))));
}

function difference({ role, estimated, measured }) {
  if (role === "latent") return "not compared";
  if (number(estimated) !== null && number(measured) !== null) return number(estimated) - number(measured);
  return [estimated, measured].find((cell) => number(cell) === null);
}

function chart(caption, title, steps, word, id) {
  const named = steps.map(([name, role, estimated, measured]) => ({ name, role, estimated, measured }));
  const cells = named.map((step) => [step.name, step.estimated, step.role === "latent" ? "a formula" : step.measured, difference(step)]);
  const heading = word[0].toUpperCase() + word.slice(1);
  return html("figure", {}, waterfall(title, named, id), html("figcaption", {}, caption),
    html("details", {}, html("summary", {}, "Data of this chart"), table("num", "", ["Step", "Estimated", heading, "Difference"], cells, exact)));
}

function block([kind, ...parts], id) {
  if (kind === "h") return html("h3", {}, ...parts);
  if (kind === "p") return html("p", { class: "soft" }, ...parts);
  if (kind === "chart") return chart(...parts, id);
  if (kind === "table") return table(...parts);
  return html("dl", {}, ...parts[0].flatMap(([label, text]) => [html("dt", {}, label), html("dd", {}, ...contents(text))]));
}

function fill(details) {
  if (details.children.length > 1) return;
  const [left, right, wide] = JSON.parse(lines[details.id.slice(1)]).map((blocks, n) =>
    html("div", { class: n === 2 && "wide" }, ...blocks.map((part) => block(part, `${details.id}c`))));
  details.append(html("div", { class: "body" }, left, right, wide));
}

function addCases() {
  head.cases.forEach(([name, conditions, peak, verdict, error], n) => {
    const judged = verdict ? [", ", html("span", { class: `verdict v-${verdict}` }, verdict), error] : [];
    const details = html("details", { class: "case", id: `w${n + 1}` }, html("summary", {}, html("strong", {}, name), " ",
      html("span", { class: "soft" }, conditions), " ", html("span", { class: peak.includes(" ") ? "of" : `of s-${peak}` }, peak, ...judged)));
    details.addEventListener("toggle", () => fill(details));
    byId("workloads").append(details);
    if (n < OPEN) { fill(details); details.open = true; }
  });
}

// What a cell is sorted by, where its column holds numbers: bytes, a number, or the product of a clip's sides.
const value = (cell) => number(cell) ?? String(bare(cell)).split("\u00d7").reduce((product, text) => product * parseFloat(text), 1);

function isNumeric(column) {
  const unknown = head.rows.map((row) => Number.isNaN(value(row[column])));
  return unknown.includes(false) && head.rows.every((row, n) => !unknown[n] || bare(row[column]) === "unknown");
}

function styleOf(name, word, numeric) {
  if (name === "verdict") return `reason v-${String(word).replaceAll(" ", "-")}`;
  if (name === "status") return `s-${word}`;
  return numeric && "n";
}

function order(column, numeric, up) {
  const text = (row) => String(bare(row.data[column]));
  rows.sort((a, b) => {
    const sign = up ? 1 : -1;
    if (!numeric) return sign * text(a).localeCompare(text(b), "en", { numeric: true });
    const [x, y] = [value(a.data[column]), value(b.data[column])];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // unknown stays last
    return sign * (x - y);
  });
}

function addTable() {
  const numeric = head.heads.map((_, column) => isNumeric(column));
  rows = head.rows.map((cells, n) => {
    const [first, ...rest] = cells;
    const link = html("th", { scope: "row" }, html("a", { href: `#w${n + 1}` }, ...contents(first)));
    const others = rest.map((cell, at) => {
      const name = head.heads[at + 1];
      return html("td", { class: styleOf(name, bare(cell), numeric[at + 1]), "data-head": name }, ...contents(cell));
    });
    return Object.assign(html("tr", {}, link, ...others), { data: cells });
  });
  const body = html("tbody");
  const heads = head.heads.map((name, column) => {
    const cell = html("th", { scope: "col", class: numeric[column] && "n" }, html("button", { type: "button" }, name));
    cell.firstChild.addEventListener("click", () => {
      const up = cell.getAttribute("aria-sort") !== "ascending";
      order(column, numeric[column], up);
      showRows();
      body.append(...rows);
      for (const other of heads) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", up ? "ascending" : "descending");
    });
    return cell;
  });
  const input = html("input", { id: "filter", type: "search" });
  input.addEventListener("input", showRows);
  const more = html("button", { id: "more", type: "button", hidden: "" });
  more.addEventListener("click", () => { most = Infinity; showRows(); });
  byId("table").append(
    ...(head.alike.length ? [html("p", { class: "soft" }, `In every case: ${head.alike.join("; ")}.`)] : []),
    html("label", { class: "filter" }, "Show cases with all of these words ", input, " ", html("output", { id: "shown" })),
    scroll("All cases", html("table", { id: "cases", class: "cards" }, html("thead", {}, html("tr", {}, ...heads)), body)), more);
  if (head.notes.length) {
    byId("table").append(html("h3", {}, "Notes: why a figure is unknown, and what to know of several cases"),
      html("ol", { class: "footnotes" }, ...head.notes.map((text, n) => html("li", { id: `n${n + 1}` }, text))));
  }
  body.append(...rows);
}

function showRows() { // those with all words of the filter, `most` of them, and the sections of all that have them
  const words = byId("filter").value.toLowerCase().split(/\s+/);
  let count = 0;
  for (const row of rows) {
    const section = byId(row.querySelector("a").hash.slice(1));
    const text = `${row.textContent} ${section.firstChild.textContent}`.toLowerCase();
    section.hidden = !words.every((word) => text.includes(word));
    if (!section.hidden) count += 1;
    row.hidden = section.hidden || count > most;
  }
  byId("shown").value = byId("filter").value ? `${count} of ${rows.length}` : "";
  byId("more").hidden = count <= most;
  byId("more").textContent = `Show the other ${(count - most).toLocaleString("en")} rows`;
}

function openTarget() {
  const target = location.hash && byId(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) { fill(target); target.open = true; target.scrollIntoView(); }
}

let closed = [], buttons = [];
addEventListener("beforeprint", () => {
  for (const row of rows) row.hidden = byId(row.querySelector("a").hash.slice(1)).hidden;
  buttons = [...document.querySelectorAll("#cases button")]; // browsers leave them out of a head that they repeat on a page
  for (const button of buttons) button.replaceWith(button.textContent);
  const cases = [...document.querySelectorAll("details.case")];
  closed = cases.length > PRINTED ? [] : cases.filter((details) => !details.open);
  for (const details of closed) { fill(details); details.open = true; }
});
addEventListener("afterprint", () => {
  if (rows.length) showRows();
  for (const details of closed) details.open = false;
  document.querySelectorAll("#cases thead th").forEach((cell, n) => cell.replaceChildren(buttons[n]));
});
addEventListener("hashchange", openTarget);

async function start() {
  const packed = Uint8Array.from(atob(byId("data").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  lines = (await new Response(stream).text()).split("\n");
  head = JSON.parse(lines[0]);
  byId("unread")?.remove(); // a run without a case has none
  if (head.cases.length) { addTable(); addCases(); showRows(); }
  openTarget();
  document.documentElement.dataset.drawn = "";
}
start();
