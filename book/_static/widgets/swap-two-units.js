(window.bookWidgets ??= {})["swap-two-units"] = (stage, data, kit, label) => {
  const { svg, text, path, disc, number, slider, button, tick, row, said } = kit;
  const hues = ["blue", "orange", "green"];
  let x = [...data.x], order = [0, 1, 2], forget = false;
  const drawing = kit.picture(404, label);
  const voice = said();

  const run = (into, out) => {
    const hidden = into.map((weights) => Math.max(0, weights[0] * x[0] + weights[1] * x[1])); // ReLU
    return { hidden, y: out.map((weights) => weights.reduce((sum, w, k) => sum + w * hidden[k], 0)) };
  };
  const columns = (out, places) => out.map((weights) => places.map((k) => weights[k]));
  const matrix = (left, top, name, rows, hue) => {
    const [wide, high] = [30 * rows[0].length, 20 * rows.length];
    const side = (at, turn) => path([[at + turn, top], [at, top], [at, top + high], [at + turn, top + high]], "thin");
    return [
      text(left + wide / 2, top - 8, name, "small soft"), side(left, 5), side(left + wide, -5),
      ...rows.flatMap((values, r) => values.map((value, c) => text(left + 15 + 30 * c, top + 15 + 20 * r, number(value), hue(r, c)))),
    ];
  };

  const draw = () => {
    const into = order.map((k) => data.in[k]);
    const outOrder = forget ? [0, 1, 2] : order;
    const out = columns(data.out, outOrder);
    const { hidden, y } = run(into, out);
    const first = run(data.in, data.out).y;
    const half = (p, q) => p.map((r, i) => r.map((v, j) => (v + q[i][j]) / 2));
    const middle = run(half(data.in, into), half(data.out, out)).y;
    const at = [[[50, 60], [50, 160]], [[200, 36], [200, 110], [200, 184]], [[350, 60], [350, 160]]];
    const edges = order.flatMap((k, unit) => [
      ...at[0].map((place, i) => [place, at[1][unit], into[unit][i], hues[k]]),
      ...at[2].map((place, o) => [place, at[1][unit], out[o][unit], hues[outOrder[unit]]]),
    ]);
    const same = y.every((value, i) => Math.abs(value - first[i]) < 1e-9);
    const show = (values) => `(${values.map((v) => number(v)).join(", ")})`;
    drawing.replaceChildren(
      ...edges.map(([from, to, weight, hue]) => svg("path", { d: `M${from}L${to}`, class: `edge ${hue}${weight < 0 ? " dashed" : ""}`, style: `stroke-width:${0.6 + 1.3 * Math.abs(weight)}` })),
      ...order.map((k, unit) => text(200, at[1][unit][1] - 20, `unit ${k + 1}`, `small halo ${hues[k]}`)),
      ...[x, hidden, y].flatMap((values, layer) => values.flatMap((value, i) => [disc(...at[layer][i], 15, "box"), text(at[layer][i][0], at[layer][i][1] + 4.5, number(value))])),
      text(50, 216, "input", "small soft"), text(200, 216, "hidden", "small soft"), text(350, 216, "output", "small soft"),
      ...matrix(60, 250, "weights in: a row for each unit", into, (r) => hues[order[r]]),
      ...matrix(240, 250, "weights out: a column for each", out, (r, c) => hues[outOrder[c]]),
      text(20, 342, "output of the network", "small soft", "start"), text(380, 342, show(first), "", "end"),
      text(20, 364, "output with these weights", "small soft", "start"), text(380, 364, `${show(y)} ${same ? "✓ the same" : "✗ another"}`, same ? "title" : "title orange", "end"),
      text(20, 386, "output of the average of both weights", "small soft", "start"), text(380, 386, show(middle), "", "end"),
    );
    voice.textContent = `Order of units: ${order.map((k) => k + 1).join(", ")}. Output ${show(y)}, ${same ? "the same" : "another one"}; of the average ${show(middle)}.`;
  };
  const swap = (i, j) => button(`swap units ${i + 1} and ${j + 1}`, () => {
    const [p, q] = [order.indexOf(i), order.indexOf(j)];
    [order[p], order[q]] = [order[q], order[p]];
    draw();
  });
  draw();
  stage.append(
    drawing, voice, row(swap(0, 1), swap(0, 2), swap(1, 2)),
    tick("forget the weights out", false, (on) => { forget = on; draw(); }),
    ...[0, 1].map((i) => slider(`input ${i + 1}`, { min: -3, max: 3, step: 0.5, value: x[i] }, (value) => { x[i] = value; draw(); })),
  );
};
