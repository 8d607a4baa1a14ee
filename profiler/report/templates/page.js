"use strict";
// Sorts and filters the table of cases, shows a footnote's text on its number, opens a case that a link names, prints all cases open.
const table = document.getElementById("cases");
const heads = table ? [...table.tHead.rows[1].cells] : [];

function sortBy(column) {
  const head = heads[column];
  const up = head.getAttribute("aria-sort") !== "ascending";
  const numeric = "n" in head.dataset;
  const value = (row) => {
    const cell = row.cells[column];
    if (!numeric) return cell.textContent.trim();
    return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
  };
  const order = (a, b) => {
    const x = value(a), y = value(b);
    if (x === null || y === null) return (x === null) - (y === null); // unknown stays last, either way
    return (up ? 1 : -1) * (numeric ? x - y : x.localeCompare(y, "en", { numeric: true }));
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort(order));
  for (const other of heads) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
}

function addButtons() {
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(column));
    head.append(button);
  });
}

function removeButtons() { // browsers leave buttons out of a table head that they repeat on a new page
  for (const head of heads) head.firstChild.replaceWith(...head.firstChild.childNodes);
}

function addFilter() {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { id: "filter", type: "search" });
  const shown = document.createElement("output");
  label.className = "filter";
  label.append("Show cases with all of these words ", input, " ", shown);
  table.parentNode.before(label);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    let count = 0;
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      document.getElementById(row.querySelector("a").hash.slice(1)).hidden = row.hidden;
      count += !row.hidden;
    }
    shown.value = `${count} of ${table.tBodies[0].rows.length}`;
  });
}

for (const mark of document.querySelectorAll("sup a")) {
  const note = document.getElementById(mark.hash.slice(1));
  if (note) mark.title = note.textContent.trim();
}

function openTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) { target.open = true; target.scrollIntoView(); }
}

let closed = [];
addEventListener("beforeprint", () => {
  removeButtons();
  closed = [...document.querySelectorAll("details.case:not([open])")];
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
  addButtons();
});
addEventListener("hashchange", openTarget);
addButtons();
if (table) addFilter();
openTarget();
