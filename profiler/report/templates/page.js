"use strict";
// Draws what the page holds as data: the table of cases, sortable and filtered, and the section of a case when it is opened.
// Everything from the data goes into the page as text: nothing in it can become markup.

const OPEN = 3; // sections that stand open when the page is opened
const PRINTED = 200; // cases that printing opens; of more, those that stand open are printed
const UNITS = [[2 ** 30, "GiB", 3], [2 ** 20, "MiB", 1], [2 ** 10, "KiB", 1]];

let lines = []; // JSON: the table, then a section a case
let head; // { heads, rows, alike, notes, cases } of the first line
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

function table(style, caption, heads, rows, show = size) {
  const row = (cells, tag) => html("tr", {}, ...cells.map((cell, n) => html(n && tag === "th" ? "td" : tag, { "data-head": n || tag === "td" ? heads[n] : null }, ...contents(cell, show))));
  const made = html("table", { class: `${style} cards` },
    html("thead", {}, html("tr", {}, ...heads.map((text) => html("th", { scope: "col" }, text)))),
    html("tbody", {}, ...rows.map((cells) => row(cells, style === "size" ? "td" : "th"))));
  if (caption) made.prepend(html("caption", {}, caption));
  return html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption || heads[0] }, made);
}

// The waterfall: bars are linear and add up, dots stand on a logarithmic axis, numbers at the right.
const LEFT = 72, WIDTH = 172, TOP = 18, DOTS = 258, END = 326;
const power = (at) => { const unit = Math.min(Math.max(Math.floor(at / 10), 0), 4); return `${2 ** (at - 10 * unit)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`; };

function waterfall(title, steps, id, word) {
  const sizes = steps.flatMap(([, , ...pair]) => pair.map(number)).filter((bytes) => bytes > 0);
  const whole = Math.max(...sizes), latent = number(steps[0][2]) || 0;
  const low = Math.floor(Math.log2(Math.min(...sizes)) - 0.1);
  const high = Math.max(Math.ceil(Math.log2(whole) + 0.1), low + 2);
  const dot = (bytes, y) => `M${(DOTS + (Math.log2(bytes) - low) / (high - low) * (END - DOTS)).toFixed(1)} ${y + 4.5}h0`;
  const bar = (start, bytes, y) => { const wide = Math.max(bytes / whole * WIDTH, 1); return `M${LEFT + start / whole * WIDTH} ${y}h${wide}v9h-${wide}z`; };
  const lanes = ["estimated", "measured"].filter((_, n) => steps.slice(1).some((step) => number(step[2 + n]) !== null));
  const height = 13 * Math.max(lanes.length, 1) + 6, bottom = TOP + steps.length * height;
  const numbers = (texts) => svg("g", { class: "num", transform: "translate(400)" }, ...texts.map(([y, text]) => svg("text", { y }, text)));

  const layers = lanes.map((side, lane) => {
    const paths = { term: "", total: "", dots: "" }, texts = [];
    let end = 0; // of the terms so far: a term starts there, a total at 0
    steps.forEach((step, n) => {
      if (n === 0) return;
      const [, role] = step, cell = step[side === "estimated" ? 2 : 3], bytes = number(cell);
      const y = TOP + n * height + 13 * lane + 4;
      texts.push([y + 8, bytes === null ? "unknown" : Array.isArray(cell) && cell[1] ? cell[1] : size(bytes)]);
      if (bytes === null) return;
      const start = role === "total" ? 0 : end;
      end = start + bytes;
      if (bytes > 0) { paths[role] += bar(start, bytes, y); paths.dots += dot(bytes, y); }
    });
    return svg("g", { class: side }, svg("path", { d: paths.term }), svg("path", { class: "total", d: paths.total }),
      svg("path", { class: "dot", d: paths.dots }), numbers(texts));
  });

  const y = TOP + height / 2 - 4.5;
  const widest = steps.find(([, , ...pair]) => pair.map(number).includes(whole))[0];
  const first = svg("g", { class: "latent" }, numbers([[y + 8, latent ? size(latent) : steps[0][2] === 0 ? "0 B" : "unknown"]]));
  if (latent) first.prepend(svg("path", { d: bar(0, latent, y) }), svg("path", { class: "dot", d: dot(latent, y) }));
  if (latent && latent < whole / 50) {
    first.append(svg("text", { class: "share", x: LEFT + 5 + Math.max(latent / whole * WIDTH, 1), y: y + 8 }, `1/${Math.round(whole / latent).toLocaleString("en")} of ${widest}`));
  }
  const totals = steps.filter(([, role]) => role === "total").map(([name, , estimated, measured]) => [name, number(measured) ?? number(estimated)]);
  const said = totals.filter(([, bytes]) => bytes !== null).map(([name, bytes]) => `${name} ${size(bytes)}`).join(", ");
  const tick = (x, at, anchor, text) => svg("text", { x, y: at, "text-anchor": anchor }, text);
  return svg("svg", { class: "chart waterfall", viewBox: `0 0 400 ${bottom + 20}`, role: "img", "aria-labelledby": `${id}t ${id}d` },
    svg("title", { id: `${id}t` }, `Waterfall of ${title}, latent to device bytes`),
    svg("desc", { id: `${id}d` }, `${said || "no total is known"}.`),
    svg("path", { class: "sum", d: steps.map(([, role], n) => role === "total" ? `M0 ${TOP + n * height}h400v${height}H0z` : "").join("") }),
    svg("path", { class: "grid", d: [LEFT, LEFT + WIDTH, DOTS, END].map((x) => `M${x} 16V${bottom}`).join("") }),
    ...layers, first,
    svg("g", {}, ...steps.map(([name, role], n) => svg("text", { class: role === "total" && "total", y: TOP + (n + 0.5) * height + 3.5 }, name))),
    svg("g", { class: "tick" }, tick(LEFT, 10, "start", "linear, terms add up"), tick((DOTS + END) / 2, 10, "middle", "log"),
      tick(LEFT, bottom + 14, "start", "0"), tick(LEFT + WIDTH, bottom + 14, "end", size(whole)),
      tick(DOTS, bottom + 14, "start", power(low)), tick(END, bottom + 14, "end", power(high))));
}

function difference([, role, estimated, measured]) {
  if (role === "latent") return "not compared";
  if (number(estimated) !== null && number(measured) !== null) return number(estimated) - number(measured);
  return [estimated, measured].find((cell) => number(cell) === null);
}

function chart(caption, title, steps, word, id) {
  const rows = steps.map((step) => [step[0], step[2], step[1] === "latent" ? "a formula" : step[3], difference(step)]);
  const heading = word[0].toUpperCase() + word.slice(1);
  return html("figure", {}, waterfall(title, steps, id, word), html("figcaption", {}, caption),
    html("details", {}, html("summary", {}, "Data of this chart"), table("num", "", ["Step", "Estimated", heading, "Difference"], rows, exact)));
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

const value = (cell) => number(cell) ?? String(bare(cell)).split("\u00d7").reduce((product, text) => product * parseFloat(text), 1);
const numeric = (column) => head.rows.some((row) => !Number.isNaN(value(row[column]))) && head.rows.every((row) => !Number.isNaN(value(row[column])) || bare(row[column]) === "unknown");

function addTable() {
  const body = html("tbody"), row = html("tr");
  const sorts = head.heads.map((_, column) => numeric(column));
  const rows = head.rows.map((cells, n) => {
    const made = html("tr", {}, ...cells.map((cell, column) => {
      const name = head.heads[column], word = bare(cell);
      if (column === 0) return html("th", { scope: "row" }, html("a", { href: `#w${n + 1}` }, ...contents(cell)));
      const style = name === "verdict" ? `reason v-${String(word).replaceAll(" ", "-")}` : name === "status" ? `s-${word}` : sorts[column] ? "n" : null;
      return html("td", { class: style, "data-head": name }, ...contents(cell));
    }));
    made.data = cells;
    return made;
  });
  const heads = head.heads.map((name, column) => html("th", { scope: "col", class: sorts[column] && "n" }, html("button", { type: "button" }, name)));
  heads.forEach((cell, column) => cell.firstChild.addEventListener("click", () => {
    const up = cell.getAttribute("aria-sort") !== "ascending";
    rows.sort((a, b) => {
      const [x, y] = [a, b].map((made) => sorts[column] ? value(made.data[column]) : String(bare(made.data[column])));
      if (sorts[column] && (Number.isNaN(x) || Number.isNaN(y))) return Number.isNaN(x) - Number.isNaN(y); // unknown stays last
      return (up ? 1 : -1) * (sorts[column] ? x - y : x.localeCompare(y, "en", { numeric: true }));
    });
    body.append(...rows);
    for (const other of heads) other.removeAttribute("aria-sort");
    cell.setAttribute("aria-sort", up ? "ascending" : "descending");
  }));
  row.append(...heads);
  body.append(...rows);
  const list = (tag, style, items, id) => items.length ? [html(tag, { class: style }, ...items.map((text, n) => html("li", { id: id && `${id}${n + 1}` }, text)))] : [];
  byId("table").append(
    ...(head.alike.length ? [html("p", { class: "soft" }, `In every case: ${head.alike.join("; ")}.`)] : []),
    filter(rows),
    html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "All cases" }, html("table", { id: "cases", class: "cards" }, html("thead", {}, row), body)),
    ...(head.notes.length ? [html("h3", {}, "Notes: why a figure is unknown, and what to know of several cases")] : []),
    ...list("ol", "footnotes", head.notes, "n"));
}

function filter(rows) {
  const input = html("input", { id: "filter", type: "search" }), shown = html("output");
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    let count = 0;
    rows.forEach((row) => {
      const section = byId(row.querySelector("a").hash.slice(1));
      const text = `${row.textContent} ${section.firstChild.textContent}`.toLowerCase();
      row.hidden = section.hidden = !words.every((word) => text.includes(word));
      count += !row.hidden;
    });
    shown.value = `${count} of ${rows.length}`;
  });
  return html("label", { class: "filter" }, "Show cases with all of these words ", input, " ", shown);
}

function openTarget() {
  const target = location.hash && byId(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) { fill(target); target.open = true; target.scrollIntoView(); }
}

let closed = [], buttons = [];
addEventListener("beforeprint", () => {
  buttons = [...document.querySelectorAll("#cases button")]; // browsers leave them out of a head that they repeat on a page
  for (const button of buttons) button.replaceWith(button.textContent);
  const cases = [...document.querySelectorAll("details.case")];
  closed = cases.length > PRINTED ? [] : cases.filter((details) => !details.open);
  for (const details of closed) { fill(details); details.open = true; }
});
addEventListener("afterprint", () => {
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
  if (head.cases.length) { addTable(); addCases(); }
  openTarget();
  document.documentElement.dataset.drawn = "";
}
start();
