(window.bookWidgets ??= {})["dual-eta"] = (stage, data, kit, label) => {
  const { text, fixed, chart, slider, said } = kit;
  const runs = [["single, η", "green", ""], ["single, 2η", "orange", ""], ["dual, η", "blue", "dashed"]];
  const steps = 60;
  const drawing = kit.picture(452, label);
  const voice = said();

  // Small matrices as lists of rows.
  const product = (p, q) => p.map((row) => q[0].map((_, j) => row.reduce((sum, value, k) => sum + value * q[k][j], 0)));
  const transposed = (p) => p[0].map((_, j) => p.map((row) => row[j]));
  const mixed = (p, q, s, t) => p.map((row, i) => row.map((value, j) => s * value + t * q[i][j]));
  const split = (theta) => [theta.map((row) => row.slice(0, data.inputs)), transposed(theta.map((row) => row.slice(data.inputs)))];
  const network = (theta) => { const [w, u] = split(theta); return product(u, w); };
  const square = (p) => p.flat().reduce((sum, value) => sum + value * value, 0);
  const wanted = network(data.a);

  // ½‖UW − M‖², and its gradient in the weights of the merged network.
  const loss = (theta) => square(mixed(network(theta), wanted, 1, -1)) / 2;
  const gradient = (theta) => {
    const [w, u] = split(theta), error = mixed(product(u, w), wanted, 1, -1);
    const [byW, byU] = [product(transposed(u), error), product(error, transposed(w))];
    const byUT = transposed(byU);
    return byW.map((row, i) => [...row, ...byUT[i]]);
  };
  // (1 + S/2)⁻¹(1 − S/2) for a skew S of a stream of three: the step stays a rotation.
  const cayley = (s) => {
    const v = [s[2][1] / 2, s[0][2] / 2, s[1][0] / 2], n = v.reduce((sum, value) => sum + value * value, 0);
    const half = s.map((row) => row.map((value) => value / 2)), twice = product(half, half);
    return half.map((row, i) => row.map((value, j) => (i === j) + (2 * (twice[i][j] - value)) / (1 + n)));
  };
  const stepped = (theta, slope, rate) => {
    const m = product(slope, transposed(theta)), skew = mixed(m, transposed(m), rate, -rate);
    return product(cayley(skew), theta);
  };
  const learn = (dual, rate) => {
    let [a, b] = [data.a, data.b];
    const losses = [];
    for (let step = 0; step <= steps; step++) {
      losses.push(loss(mixed(a, b, 0.5, 0.5)));
      let [slopeA, slopeB] = [null, null];
      for (const at of [0.3, 0.5, 0.7]) { // the mean over three places of the line
        const g = gradient(mixed(a, b, 1 - at, at));
        slopeA = slopeA ? mixed(slopeA, g, 1, (1 - at) / 3) : mixed(g, g, (1 - at) / 3, 0);
        slopeB = slopeB ? mixed(slopeB, g, 1, at / 3) : mixed(g, g, at / 3, 0);
      }
      const nextB = stepped(b, slopeB, rate);
      if (dual) a = stepped(a, slopeA, rate);
      b = nextB;
    }
    return losses;
  };
  const rates = Array.from({ length: 25 }, (_, k) => 0.02 * 10 ** (k / 11));
  let at = 7;

  const measured = data.measured;
  const batches = measured.curves["dual, η"].map((_, i) => i);
  const draw = () => {
    const eta = rates[at];
    const found = { "single, η": learn(false, eta), "single, 2η": learn(false, 2 * eta), "dual, η": learn(true, eta) };
    const apart = Math.max(...found["dual, η"].map((value, i) => Math.abs(value - found["single, 2η"][i])));
    const top = Math.max(...Object.values(found).flat()) * 1.05;
    const live = chart({ top: 46, height: 130, x: [0, steps], y: [0, top], xs: [0, 20, 40, 60], ys: [0, 1, 2, 3, 4].map((k) => k / 2).filter((v) => v < top), across: "step", up: "loss of the midpoint, computed here" });
    const real = chart({ top: 272, height: 130, x: [0, 100], y: [0, 1.6], xs: [0, 25, 50, 75, 100], ys: [0, 0.5, 1, 1.5], across: "step", up: `vision transformers, as measured [${measured.unit}]` });
    const index = found["dual, η"].map((_, i) => i);
    drawing.replaceChildren(
      ...runs.map(([name, hue], k) => kit.svg("g", {}, kit.path([[44 + 116 * k, 14], [68 + 116 * k, 14]], `edge ${hue} ${runs[k][2]} thick`), text(74 + 116 * k, 18, name, "small", "start"))),
      live.frame, real.frame,
      ...runs.map(([name, hue, look]) => live.curve(index, found[name], `edge ${hue} ${look} thick`)),
      ...runs.map(([name, hue, look]) => real.curve(batches, measured.curves[name], `edge ${hue} ${look}`)),
    );
    voice.textContent = `Dual at η = ${fixed(eta, 3)} and single at 2η = ${fixed(2 * eta, 3)} differ by ${apart < 1e-4 ? "less than 0.0001" : `at most ${Number(apart.toPrecision(2))}`}.`;
  };
  draw();
  stage.append(drawing, voice, slider("rate η", { min: 0, max: rates.length - 1, step: 1, value: at, shown: (k) => fixed(rates[k], 3) }, (k) => { at = k; draw(); }));
};
