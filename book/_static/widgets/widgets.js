// Living pictures: each script in this folder registers how its widget is drawn; this one puts it where its still stood.
// A drawing is one SVG in the look of the book's pictures (pictures.css); controls are ordinary form elements.
(() => {
  const registered = (window.bookWidgets ??= {});

  const element = (space) => (name, attributes = {}, ...children) => {
    const made = space ? document.createElementNS(space, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes))
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (value !== false) made.setAttribute(key, value === true ? "" : value);
    made.append(...children.flat());
    return made;
  };
  const svg = element("http://www.w3.org/2000/svg");
  const html = element();

  const text = (x, y, words, look = "", anchor = "middle") =>
    svg("text", { x: round(x), y: round(y), class: look, "text-anchor": anchor }, words);
  const round = (value) => Math.round(value * 10) / 10;
  const path = (points, look) =>
    svg("path", { d: "M" + points.map(([x, y]) => `${round(x)} ${round(y)}`).join("L"), class: look });
  const disc = (x, y, r, look) => svg("circle", { cx: round(x), cy: round(y), r, class: look });
  const box = (x, y, width, height, look) => svg("rect", { x, y, width, height, rx: 3, class: look });
  const number = (value, digits = 2) => (Math.round(value * 10 ** digits) / 10 ** digits + 0).toString().replace("-", "−");
  const fixed = (value, digits) => value.toFixed(digits).replace("-", "−");

  const arrow = (from, to, hue) => {
    const length = Math.hypot(to[0] - from[0], to[1] - from[1]) || 1;
    const [ux, uy] = [(to[0] - from[0]) / length, (to[1] - from[1]) / length];
    const back = [to[0] - 7 * ux, to[1] - 7 * uy];
    const wings = [1, -1].map((side) => [back[0] - 3.5 * side * uy, back[1] + 3.5 * side * ux]);
    return svg("g", {}, path([from, back], `edge ${hue}`), path([to, ...wings], `head ${hue}`));
  };

  // Axes with few marks; X and Y take values to places.
  const chart = ({ left = 44, top, width = 344, height, x, y, across, up, xs, ys }) => {
    const X = (value) => left + (width * (value - x[0])) / (x[1] - x[0]);
    const Y = (value) => top + height - (height * (Math.min(value, y[1]) - y[0])) / (y[1] - y[0]);
    const frame = svg("g", {});
    for (const mark of ys)
      frame.append(path([[left, Y(mark)], [left + width, Y(mark)]], "grid"), text(left - 6, Y(mark) + 4, number(mark), "small soft", "end"));
    for (const mark of xs) frame.append(text(X(mark), top + height + 16, number(mark), "small soft"));
    frame.append(text(left + width / 2, top + height + 32, across, "small soft"), text(left, top - 8, up, "small soft", "start"));
    const curve = (us, vs, look) => path(us.map((u, i) => [X(u), Y(vs[i])]), look);
    return { frame, X, Y, curve };
  };

  const picture = (height, label) => svg("svg", { class: "picture", viewBox: `0 0 400 ${height}`, role: "img", "aria-label": label });

  let count = 0;
  const slider = (label, { min, max, step, value, shown = number }, moved) => {
    const id = `widget-control-${++count}`;
    const output = html("output", { for: id }, shown(value));
    const input = html("input", { type: "range", id, min, max, step, value, "aria-valuetext": shown(value) });
    const row = html("div", { class: "widget-slider" }, html("label", { for: id }, label), input, output);
    row.set = (at) => {
      input.value = at;
      input.dispatchEvent(new Event("input"));
    };
    input.addEventListener("input", () => {
      output.textContent = shown(Number(input.value));
      input.setAttribute("aria-valuetext", output.textContent);
      moved(Number(input.value));
    });
    return row;
  };
  const button = (label, pressed) => html("button", { type: "button", onclick: pressed }, label);
  const tick = (label, checked, changed) => {
    const input = html("input", { type: "checkbox", checked, onchange: (event) => changed(event.target.checked) });
    return html("label", { class: "widget-tick" }, input, " " + label);
  };
  const choice = (label, options, chosen) => {
    const name = `widget-control-${++count}`;
    const inputs = options.map(([value, words], i) =>
      html("label", { class: "widget-tick" }, html("input", { type: "radio", name, checked: i === 0, onchange: () => chosen(value) }), " " + words));
    return html("div", { role: "radiogroup", "aria-label": label, class: "widget-row" }, inputs);
  };
  const row = (...children) => html("div", { class: "widget-row" }, children);
  // What changed, for those who hear the page.
  const said = () => html("p", { class: "widget-said", role: "status" });

  const kit = { svg, html, text, path, disc, box, arrow, number, fixed, chart, picture, slider, button, tick, choice, row, said };

  document.addEventListener("DOMContentLoaded", () => {
    for (const numbers of document.querySelectorAll("script[data-widget]")) {
      const still = numbers.closest("figure").querySelector("svg, img");
      const stage = html("div", { class: "widget-stage" });
      try {
        registered[numbers.dataset.widget](stage, JSON.parse(numbers.textContent), kit, still.getAttribute("aria-label") ?? "");
        still.replaceWith(stage);
      } catch (error) {
        console.error(error); // the still stays
      }
    }
  });
})();
