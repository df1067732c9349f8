"use strict";

// Tables are sorted by their headings
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sort(table, headings, place));
  });
}

function sort(table, headings, place) {
  const heading = headings[place], number = heading.classList.contains("number");
  const before = heading.getAttribute("aria-sort");
  // Numbers first descend: the largest is what is mostly looked for
  const way = before === "descending" ? "ascending" : before === "ascending" || number ? "descending" : "ascending";
  const sign = way === "ascending" ? 1 : -1;
  const key = row => {
    const cell = row.cells[place];
    return number ? ("key" in cell.dataset ? Number(cell.dataset.key) : null) : cell.textContent;
  };
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null);  // what is empty stands last, either way
    return sign * (number ? a - b : a.localeCompare(b, undefined, {numeric: true}));
  };
  const rows = [...table.tBodies[0].rows].map(row => [key(row), row]);
  rows.sort((a, b) => compare(a[0], b[0]));
  table.tBodies[0].append(...rows.map(pair => pair[1]));
  for (const other of headings) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", way);
}

// Pictures stand in the page once, and are put wherever a row is named
const thumbnails = JSON.parse(document.getElementById("thumbnails").textContent);

function place(images) {
  for (const image of images) {
    const uri = thumbnails[image.dataset.row];
    if (uri) image.src = uri;
    else image.replaceWith(made("p", {className: "absent", textContent: "picture not available"}));
  }
}
place(document.querySelectorAll("img[data-row]"));

function made(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// A confusion's pictures
const confusions = JSON.parse(document.getElementById("confusions").textContent);

function name(k) {
  return made("bdi", {textContent: confusions.classes[k]});
}

function show(button) {
  const method = button.dataset.method, cell = button.dataset.cell, count = Number(button.textContent);
  const [truth, answer] = cell.split("-").map(Number);
  const rows = confusions.methods[method][cell] || [];
  const some = rows.length < count ? `, ${rows.length} shown` : "";
  const percent = p => `${(100 * p).toFixed(p > 0.995 || p < 0.005 ? 1 : 0)} %`;
  const items = rows.map(([row, sure, own]) => {
    const path = confusions.paths[row];
    const image = made("img", {alt: path});
    image.dataset.row = row;
    const words = truth === answer ? `with ${percent(sure)}` : `with ${percent(sure)}; the true class: ${percent(own)}`;
    return made("li", {}, image, made("p", {}, made("bdi", {textContent: path})), made("p", {textContent: words}));
  });
  const images = `: ${count.toLocaleString("en")} ${count === 1 ? "image" : "images"}${some}`;
  const title = truth === answer ? ["Rightly taken for ", name(truth), images]
    : [name(truth), " taken for ", name(answer), images];
  const chosen = document.getElementById(`chosen-${method}`);
  chosen.replaceChildren(made("h4", {}, ...title), made("ul", {}, ...items));
  place(chosen.querySelectorAll("img"));
  for (const other of document.querySelectorAll(`[data-method="${method}"][aria-pressed=true]`)) {
    other.setAttribute("aria-pressed", "false");
  }
  button.setAttribute("aria-pressed", "true");
}

for (const button of document.querySelectorAll("[data-cell]")) {
  button.addEventListener("click", () => show(button));
  const [truth, answer] = button.dataset.cell.split("-").map(Number);
  button.setAttribute("aria-label", truth === answer
    ? `${button.textContent}, rightly ${confusions.classes[truth]}`
    : `${button.textContent}, ${confusions.classes[truth]} taken for ${confusions.classes[answer]}`);
}

// A matrix has one stop of the tab key; arrows go from cell to cell, left and right through all of them
for (const matrix of document.querySelectorAll("table.matrix")) {
  const buttons = [...matrix.querySelectorAll("button")];
  const rest = stop => buttons.forEach(button => { button.tabIndex = button === stop ? 0 : -1; });
  rest(buttons[0]);
  matrix.addEventListener("keydown", event => {
    const at = buttons.indexOf(event.target);
    const column = button => button.parentElement.cellIndex;
    const same = buttons.filter(button => column(button) === column(event.target));
    const to = {
      ArrowRight: buttons[at + 1],
      ArrowLeft: buttons[at - 1],
      ArrowDown: same[same.indexOf(event.target) + 1],
      ArrowUp: same[same.indexOf(event.target) - 1],
    }[event.key];
    if (event.key.startsWith("Arrow")) event.preventDefault();
    if (to) { rest(to); to.focus(); }
  });
  matrix.addEventListener("click", event => { if (event.target.dataset.cell) rest(event.target); });
}
