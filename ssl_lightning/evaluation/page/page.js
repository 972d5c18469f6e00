"use strict";
// Values under the mouse: of the curves of a chart, and of the samples of a map. Text is set as text, never as HTML.
const tip = document.getElementById("tip");
const dataOf = (id) => JSON.parse(document.getElementById(id + "-data").textContent);
const element = (name, text) => Object.assign(document.createElement(name), text === undefined ? {} : { textContent: text });

function show(event, parts) {
  tip.replaceChildren(...parts);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = event.clientX + 16 + box.width > innerWidth ? event.clientX - 16 - box.width : event.clientX + 16;
  const top = Math.min(event.clientY + 14, innerHeight - box.height - 6);
  tip.style.left = Math.max(4, Math.min(left, innerWidth - box.width - 4)) + "px";
  tip.style.top = Math.max(4, top) + "px";
}

function listen(svg, at, away) {
  const where = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    at(event, (event.clientX - box.left) * scale, (event.clientY - box.top) * scale);
  };
  svg.addEventListener("pointermove", where);
  svg.addEventListener("pointerdown", where);
  svg.addEventListener("pointerleave", () => { tip.hidden = true; away(); });
}

for (const svg of document.querySelectorAll("svg.chart")) {
  const value = dataOf(svg.id), here = svg.querySelector(".here");
  const scale = value.log ? Math.log10 : Number;
  const all = value.lines.flatMap((line) => line.points.map((point) => scale(point[0])));
  const low = Math.min(...all), high = Math.max(...all), [left, right] = value.field;
  const pixel = (x) => low === high ? (left + right) / 2 : left + (scale(x) - low) / (high - low) * (right - left);
  listen(svg, (event, x) => {
    const near = value.lines.filter((line) => line.points.length).map((line) => [line, line.points.reduce(
      (best, point) => Math.abs(pixel(point[0]) - x) < Math.abs(pixel(best[0]) - x) ? point : best)]);
    if (!near.length) return;
    const step = near.map(([, point]) => point[0]).reduce((a, b) => Math.abs(pixel(a) - x) <= Math.abs(pixel(b) - x) ? a : b);
    here.setAttribute("x1", pixel(step));
    here.setAttribute("x2", pixel(step));
    here.style.visibility = "visible";
    show(event, [element("strong", value.x + " " + step.toLocaleString("en")), ...near.map(([line, point]) => {
      const row = element("div"), dot = element("i");
      dot.style.background = line.colour;
      row.append(dot, line.name + ": " + point[1] + (point[0] === step ? "" : " (at " + point[0].toLocaleString("en") + ")"));
      return row;
    })]);
  }, () => { here.style.visibility = "hidden"; });
}

function tile(key, value, number, size) {
  const [width, height, across] = value.tile, scale = size / Math.max(width, height), span = element("span");
  span.className = "tile " + key;
  span.style.width = scale * width + "px";
  span.style.height = scale * height + "px";
  span.style.backgroundSize = scale * width * across + "px auto";
  span.style.backgroundPosition = -scale * width * (number % across) + "px " + -scale * height * Math.floor(number / across) + "px";
  return span;
}

const maps = {};
for (const svg of document.querySelectorAll("svg.map")) {
  const key = svg.dataset.of, value = maps[key] ??= dataOf(key), view = value.views[svg.dataset.view];
  const rings = document.querySelectorAll('svg.map[data-of="' + key + '"] .chosen');
  listen(svg, (event, x, y) => {
    const distance = (point) => (point[0] - x) ** 2 + (point[1] - y) ** 2;
    let best = 0;
    view.points.forEach((point, number) => { if (distance(point) < distance(view.points[best])) best = number; });
    if (distance(view.points[best]) > 900) { tip.hidden = true; return; }
    rings.forEach((ring, number) => {  // the same sample in each map of the run
      ring.setAttribute("cx", value.views[number].points[best][0]);
      ring.setAttribute("cy", value.views[number].points[best][1]);
      ring.style.visibility = "visible";
    });
    const parts = [];
    if (value.tile) parts.push(tile(key, value, best, 96));
    parts.push(element("div", value.names.length ? value.names[best] : "sample " + best));
    if (value.classes) parts.push(element("strong", "class " + value.classes[0][value.classes[1][best]]));
    if (value.lines.length) parts.push(element("div", value.lines[best]));
    if (value.tile && view.neighbours[best].length) {
      const near = element("div");
      near.append(...view.neighbours[best].map((number) => tile(key, value, number, 36)));
      parts.push(element("div", "nearest:"), near);
    }
    show(event, parts);
  }, () => rings.forEach((ring) => { ring.style.visibility = "hidden"; }));
}
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
