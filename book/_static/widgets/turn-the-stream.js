(window.bookWidgets ??= {})["turn-the-stream"] = (stage, data, kit, label) => {
  const { text, path, arrow, fixed, slider, tick, said } = kit;
  let degrees = data.degrees, follows = true;
  const drawing = kit.picture(330, label);
  const voice = said();
  const at = ([x, y]) => [200 + 46 * x, 140 - 46 * y];
  const dot = (p, q) => p[0] * q[0] + p[1] * q[1];

  const draw = () => {
    const angle = (degrees * Math.PI) / 180;
    const axes = [[Math.cos(angle), Math.sin(angle)], [-Math.sin(angle), Math.cos(angle)]];
    const numbers = (v) => axes.map((axis) => dot(axis, v));
    const arrowOf = ([p, q]) => [0, 1].map((i) => p * axes[0][i] + q * axes[1][i]);
    const x = { name: "x", hue: "blue", before: data.x, numbers: numbers(data.x) };
    const r = { name: "r", hue: "orange", before: data.r, numbers: follows ? numbers(data.r) : data.r };
    const show = (pair) => `(${pair.map((v) => fixed(v, 2)).join(", ")})`;
    const marks = [path([at([-3, 0]), at([3, 0])], "grid"), path([at([0, -2.4]), at([0, 2.9])], "grid")];
    axes.forEach((axis, k) => {
      const tip = axis.map((v) => 2.75 * v);
      marks.push(path([at(axis.map((v) => -2.3 * v)), at(tip)], "thin"));
      const [tx, ty] = at(axis.map((v) => 2.92 * v));
      marks.push(text(tx, ty + 4, `e′${"₁₂"[k]}`, "small soft halo"));
    });
    for (const { name, hue, numbers: pair } of [x, r]) {
      const tip = arrowOf(pair);
      pair.forEach((value, k) => marks.push(path([at(tip), at(axes[k].map((v) => v * value))], `edge ${hue} dashed fine`)));
      marks.push(arrow(at([0, 0]), at(tip), hue));
      const [tx, ty] = at(tip.map((v) => v * 1.12));
      marks.push(text(tx, ty + 4, name, `title halo ${hue}`));
    }
    const product = dot(x.numbers, r.numbers), stays = Math.abs(product - dot(data.x, data.r)) < 1e-9;
    marks.push(text(180, 272, "before", "small soft"), text(300, 272, "in the turned axes", "small soft"));
    [[x, 290], [r, 308]].forEach(([v, y]) => marks.push(text(100, y, v.name, `title ${v.hue}`), text(180, y, show(v.before)), text(300, y, show(v.numbers), v.hue)));
    marks.push(text(100, 326, "r · x", "title"), text(180, 326, fixed(dot(data.x, data.r), 2)), text(300, 326, `${fixed(product, 2)} ${stays ? "✓" : "✗"}`, stays ? "title" : "title orange"));
    drawing.replaceChildren(...marks);
    voice.textContent = `x is ${show(x.numbers)}, r is ${show(r.numbers)}; their inner product is ${fixed(product, 2)}${stays ? ", as before" : ", it was " + fixed(dot(data.x, data.r), 2)}.`;
  };
  draw();
  stage.append(
    drawing, voice,
    slider("angle of the axes", { min: -180, max: 180, step: 5, value: degrees, shown: (v) => `${fixed(v, 0)}°` }, (value) => { degrees = value; draw(); }),
    tick("turn what reads, too", true, (on) => { follows = on; draw(); }),
  );
};
