(window.bookWidgets ??= {})["landscape"] = (stage, data, kit, label) => {
  const { svg, text, path, disc, fixed, chart, slider, button, row, said } = kit;
  const { x, y, losses, points } = data;
  const [a, b, matched] = [points.first, points.second, points.third];
  const last = x.length - 1, size = 380 / x.length;
  const unit = size / (x[1] - x[0]); // places per unit of weight distance, the same along both axes
  const up = unit * (y[1] - y[0]), high = up * y.length;
  const X = (u) => 10 + size / 2 + unit * (u - x[0]);
  const Y = (v) => 8 + high - up / 2 - unit * (v - y[0]);
  const drawing = kit.picture(Math.round(high + 190), label);
  const voice = said();
  let end = [...matched];

  const between = (axis, at) => {
    const place = Math.min(last, Math.max(0, (at - axis[0]) / (axis[1] - axis[0])));
    const cell = Math.min(last - 1, Math.floor(place));
    return [cell, place - cell];
  };
  const loss = ([u, v]) => {
    const [[i, s], [j, t]] = [between(x, u), between(y, v)];
    return (1 - t) * ((1 - s) * losses[j][i] + s * losses[j][i + 1]) + t * ((1 - s) * losses[j + 1][i] + s * losses[j + 1][i + 1]);
  };
  const lambdas = Array.from({ length: 65 }, (_, i) => i / 64);
  const map = svg("g", {}, losses.flatMap((values, j) => values.map((value, i) =>
    svg("rect", { x: (X(x[i]) - size / 2).toFixed(1), y: (Y(y[j]) - up / 2).toFixed(1), width: (size + 0.6).toFixed(1), height: (up + 0.6).toFixed(1), style: `fill:color-mix(in srgb,var(--soft) ${Math.round(4 + 86 * Math.min(1, value / 5))}%,var(--paper))` }))));
  const moving = svg("g", {}), below = svg("g", {});
  const named = ([u, v], name, shift) => [disc(X(u), Y(v), 4, "head ink"), text(X(u), Y(v) + shift, name, "title halo")];

  const draw = () => {
    const along = lambdas.map((at) => loss([a[0] + at * (end[0] - a[0]), a[1] + at * (end[1] - a[1])]));
    const rises = along.map((value, i) => value - (1 - lambdas[i]) * along[0] - lambdas[i] * along[64]);
    const barrier = Math.max(0, ...rises);
    moving.replaceChildren(path([[X(a[0]), Y(a[1])], [X(end[0]), Y(end[1])]], "edge blue"), disc(X(end[0]), Y(end[1]), 8, "head blue"));
    const plot = chart({ top: high + 44, height: 96, x: [0, 1], y: [0, 5.5], xs: [0, 0.25, 0.5, 0.75, 1], ys: [0, 2, 4], across: "along the line, from A to the blue point", up: `loss [${data.unit}]` });
    below.replaceChildren(plot.frame, plot.curve([0, 1], [along[0], along[64]], "thin dashed"), plot.curve(lambdas, along, "edge blue"), text(388, high + 36, `barrier ${fixed(barrier, 2)}`, "title", "end"));
    voice.textContent = `Loss at the endpoint ${fixed(along[64], 2)}, barrier ${fixed(barrier, 2)} ${data.unit}.`;
  };
  const reach = (axis, at) => Math.min(axis[last], Math.max(axis[0], at));
  const across = slider("endpoint, across", { min: x[0], max: x[last], step: "any", value: end[0], shown: (v) => fixed(v, 1) }, (value) => { end[0] = value; draw(); });
  const upwards = slider("endpoint, up", { min: y[0], max: y[last], step: "any", value: end[1], shown: (v) => fixed(v, 1) }, (value) => { end[1] = value; draw(); });
  const go = ([u, v]) => {
    across.set(reach(x, u));
    upwards.set(reach(y, v));
  };
  drawing.append(map, ...named(a, "A", 20), ...named(b, "B", 20), ...named(matched, "matched B", -14), moving, below);
  drawing.style.touchAction = "pan-y";
  const drag = (event) => {
    if (event.buttons === 0) return;
    const frame = drawing.getBoundingClientRect(), scale = 400 / frame.width;
    const [px, py] = [(event.clientX - frame.x) * scale, (event.clientY - frame.y) * scale];
    if (py < high + 8) go([x[0] + (px - 10 - size / 2) / unit, y[0] + (8 + high - up / 2 - py) / unit]);
  };
  drawing.addEventListener("pointerdown", drag);
  drawing.addEventListener("pointermove", drag);
  draw();
  stage.append(drawing, voice, row(button("to B", () => go(b)), button("to matched B", () => go(matched))), across, upwards);
};
