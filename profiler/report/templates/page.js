"use strict";
// Sorts the table of cases, shows a footnote's text on its number, opens a case that a link names, prints all cases open.
const table = document.getElementById("cases");

function sortBy(head, column) {
  const body = table.tBodies[0];
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
  body.append(...[...body.rows].sort(order));
  for (const other of table.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
}

if (table) {
  [...table.tHead.rows[1].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(head, column));
    head.append(button);
  });
}

for (const mark of document.querySelectorAll("sup a")) {
  const note = document.getElementById(mark.hash.slice(1));
  if (note) mark.title = note.textContent;
}

const open = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) { target.open = true; target.scrollIntoView(); }
};
addEventListener("hashchange", open);
open();

let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details.case:not([open])")];
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => { for (const details of closed) details.open = false; });
