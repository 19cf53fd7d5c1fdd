(window.bookWidgets ??= {})["lambda-slider"] = (stage, data, kit, label) => {
  const { svg, text, path, disc, fixed, chart, slider, choice, said } = kit;
  const ways = [["naive", "orange", "averaged as they are"], ["dual", "blue", "aligned first"]];
  const pages = {
    digits: { unit: "nats per image", top: 5, ys: [0, 1, 2, 3, 4, 5], floor: 0 },
    text: { unit: "nats per byte", top: 3.6, ys: [2, 2.5, 3, 3.5], floor: 1.8 },
  };
  let [at, page] = [12, "digits"];
  const drawing = kit.picture(372, label);
  const voice = said();

  const image = (pixels, x, y, size) =>
    svg("g", {}, pixels.map((grey, i) =>
      svg("rect", { x: x + (i % 8) * size, y: y + Math.floor(i / 8) * size, width: size + 0.2, height: size + 0.2, style: `fill:var(--ink);fill-opacity:${grey / 16}` })));

  const digits = (found) => [
    ...found.labels.map((_, k) => image(found.pixels[k], 112 + 48 * k, 228, 4.5)),
    text(4, 252, "held-out digits", "small soft", "start"),
    ...ways.flatMap(([way, hue, words], row) => [
      text(4, 292 + 52 * row, row ? "aligned" : "as they are", `small ${hue}`, "start"),
      text(4, 307 + 52 * row, row ? "first" : "", `small ${hue}`, "start"),
      ...found[way].says[at].flatMap(([digit, percent], k) => {
        const right = digit === found.labels[k];
        const x = 130 + 48 * k;
        return [text(x, 294 + 52 * row, `${digit} ${right ? "✓" : "✗"}`, right ? "title" : "title orange"), text(x, 309 + 52 * row, `${percent} %`, "small soft")];
      }),
    ]),
  ];

  const written = (found) => ways.flatMap(([way, hue, words], row) => {
    const all = [...found.prompt].concat([...found[way].says[at].replaceAll("\n", "↵")]);
    const end = 1 + Math.max(20, all.slice(0, 44).lastIndexOf(" "));
    const lines = [all.slice(0, end > 21 ? end : 42), all.slice(end > 21 ? end : 42)];
    return [
      text(4, 236 + 82 * row, words, `small ${hue}`, "start"),
      ...lines.map((line, k) => svg("text", { x: 4, y: 256 + 82 * row + 18 * k, class: "mono" },
        k ? [line.join("")] : [svg("tspan", { class: "soft" }, line.slice(0, found.prompt.length).join("")), line.slice(found.prompt.length).join("")])),
    ];
  });

  const draw = () => {
    const found = data[page], { unit, top, ys, floor } = pages[page];
    const plot = chart({ top: 24, height: 132, x: [0, 1], y: [floor, top], xs: [0, 0.25, 0.5, 0.75, 1], ys, across: "λ (0: model A, 1: model B)", up: `loss [${unit}]` });
    const x = plot.X(data.lambdas[at]);
    const marks = [plot.frame, text(282, 16, "as they are", "small orange", "end"), text(388, 16, "aligned first", "small blue", "end"), path([[x, 24], [x, 156]], "thin dashed")];
    const heard = [];
    ways.forEach(([way, hue, words]) => {
      const { loss, accuracy } = found[way];
      marks.push(plot.curve(data.lambdas, loss, `edge ${hue}`), disc(x, plot.Y(loss[at]), 5, `head ${hue}`));
      const more = page === "digits" ? `${Math.round(100 * accuracy[at])} % right` : `perplexity ${fixed(Math.exp(loss[at]), 1)}, ${Math.round(100 * accuracy[at])} % right`;
      heard.push(`${words}: ${fixed(loss[at], 2)} nats, ${more}`);
    });
    drawing.replaceChildren(...marks, ...(page === "digits" ? digits(found) : written(found)));
    voice.replaceChildren(...heard.map((words, k) => kit.html("span", { class: ways[k][1] }, words)));
  };
  draw();
  stage.append(
    drawing, voice,
    slider("λ", { min: 0, max: data.lambdas.length - 1, step: 1, value: at, shown: (i) => fixed(data.lambdas[i], 2) }, (i) => { at = i; draw(); }),
    choice("networks", [["digits", "vision transformers that read digits"], ["text", "language models that write"]], (name) => { page = name; draw(); }),
  );
};
