// The map of images: points drawn from the JSON in #map-points, their pictures from #thumbnails
document.addEventListener("DOMContentLoaded", () => {
  "use strict";
  const data = JSON.parse(document.getElementById("map-points").textContent);
  const pictures = JSON.parse(document.getElementById("thumbnails").textContent);
  // Paul Tol's "muted" and an orange, told apart with any colour vision; a shape each makes it surer
  const COLOURS = ["#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255", "#aa4499", "#e66100"];
  const OTHER = "#8a8a8a", MARGIN = 25, RADIUS = 8;
  const SHAPES = [
    "M0-1A1 1 0 1 1 0 1A1 1 0 1 1 0-1Z",  // circle, square, triangle, diamond, turned triangle
    "M-.86-.86H.86V.86H-.86Z", "M0-1.15L1 .75H-1Z", "M0-1.25L1.1 0L0 1.25L-1.1 0Z", "M0 1.15L1-.75H-1Z",
  ];
  const classes = [...data.classes, ...(data.others ? ["all other classes"] : [])];
  const colour = k => k < data.classes.length ? COLOURS[k] : OTHER;
  const shape = k => SHAPES[k < data.classes.length ? k % SHAPES.length : 0];

  const drawn = (tag, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const made = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  const map = document.getElementById("map");
  const svg = drawn("svg", {tabindex: 0, role: "application", "aria-label": "Map of images; arrow keys go to the next one"});
  const ring = drawn("path", {d: SHAPES[0], fill: "none", stroke: "#000", "stroke-width": 3, "vector-effect": "non-scaling-stroke", visibility: "hidden"});
  const point = made("div", {className: "point"});
  point.setAttribute("aria-live", "polite");
  const choice = made("div", {className: "bar"}), legend = made("div", {className: "bar"});
  for (const [bar, words] of [[choice, "Kind of map"], [legend, "Classes to show"]]) {
    bar.setAttribute("role", "group");
    bar.setAttribute("aria-label", words);
  }

  const held = data.split.map(split => split !== "train");
  const marks = data.colour.map((k, i) => drawn("path", {
    d: shape(k), fill: colour(k), "fill-opacity": .8, stroke: held[i] ? "#000" : "#fff",
    "stroke-width": held[i] ? 1.2 : .4, "vector-effect": "non-scaling-stroke",
  }));
  // The held-out ones last, so that they lie on top
  const order = [...marks.keys()].sort((a, b) => held[a] - held[b] || a - b);
  svg.append(...order.map(i => marks[i]), ring);

  let places = [], chosen = -1, only = -1;
  const at = (i, size) => `translate(${places[i][0] + MARGIN} ${places[i][1] + MARGIN}) scale(${size})`;
  const visible = i => only < 0 || data.colour[i] === only;

  function lay(layout) {
    places = layout.places;
    marks.forEach((mark, i) => mark.setAttribute("transform", at(i, RADIUS)));
    const [width, height] = [0, 1].map(axis => Math.max(...places.map(place => place[axis])) + 2 * MARGIN);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    document.getElementById("map-words").textContent = layout.words;
    if (chosen >= 0) ring.setAttribute("transform", at(chosen, 2 * RADIUS));
  }

  function choose(i) {
    if (i < 0 || i === chosen) return;
    chosen = i;
    ring.setAttribute("transform", at(i, 2 * RADIUS));
    ring.setAttribute("visibility", "visible");
    const uri = pictures[data.row[i]], image = made("img", {alt: ""});
    image.dataset.row = data.row[i];
    if (uri) image.src = uri;
    point.replaceChildren(
      uri ? image : made("p", {className: "absent", textContent: "picture not available"}),
      made("div", {},
        made("p", {}, made("strong", {}, made("bdi", {textContent: data.label[i]})), `, ${data.split[i]}`),
        made("p", {className: "path"}, made("bdi", {textContent: data.path[i]}))));
  }

  function nearest(event) {
    const matrix = svg.getScreenCTM();
    if (!matrix) return -1;
    const {x, y} = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
    let best = -1, least = (event.pointerType === "mouse" ? 20 : 60) ** 2;
    places.forEach(([px, py], i) => {
      const distance = (px + MARGIN - x) ** 2 + (py + MARGIN - y) ** 2;
      if (distance < least && visible(i)) { best = i; least = distance; }
    });
    return best;
  }

  // The nearest point that lies more in the key's direction than aside from it
  function beside([dx, dy]) {
    if (chosen < 0) return marks.findIndex((_, i) => visible(i));
    let best = -1, least = Infinity;
    places.forEach(([px, py], i) => {
      const x = px - places[chosen][0], y = py - places[chosen][1];
      const along = x * dx + y * dy, aside = Math.abs(x * dy) + Math.abs(y * dx);
      if (visible(i) && along > 0 && aside <= along && x * x + y * y < least) { best = i; least = x * x + y * y; }
    });
    return best;
  }

  svg.addEventListener("pointermove", event => { if (event.pointerType === "mouse") choose(nearest(event)); });
  svg.addEventListener("pointerdown", event => choose(nearest(event)));
  svg.addEventListener("keydown", event => {
    const way = {ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1]}[event.key];
    if (!way) return;
    event.preventDefault();
    choose(beside(way));
  });

  function press(bar, button) {
    for (const other of bar.children) other.setAttribute("aria-pressed", other === button);
  }
  for (const layout of data.layouts) {
    const button = made("button", {type: "button"}, layout.name);
    button.addEventListener("click", () => { press(choice, button); lay(layout); });
    choice.append(button);
  }
  press(choice, choice.firstChild);
  classes.forEach((name, k) => {
    const sign = drawn("svg", {viewBox: "-1.4 -1.4 2.8 2.8", "aria-hidden": "true"});
    sign.append(drawn("path", {d: shape(k), fill: colour(k)}));
    const button = made("button", {type: "button"}, sign, made("bdi", {textContent: name, title: name}));
    button.addEventListener("click", () => {
      only = only === k ? -1 : k;
      press(legend, only < 0 ? null : button);
      marks.forEach((mark, i) => mark.classList.toggle("faded", !visible(i)));
    });
    legend.append(button);
  });
  press(legend, null);

  map.replaceChildren(...(data.layouts.length > 1 ? [choice] : []), legend, svg, point);
  point.append(made("p", {className: "path", textContent: "No image chosen."}));
  lay(data.layouts[0]);
});
