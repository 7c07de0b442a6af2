// Queries, keys and values as points of a plane, to move; scores, weights and outputs follow.
// Needs attention.js and controls.js.
(() => {
  const {announcer, attention, build, button, checkbox, choice, define, html, limit, number,
    numberField, svg} = window.attentionFigures;

  const words = window.attentionFigures.words({
    en: {
      plane: "The plane of queries, keys and values",
      handle: {q: "query", k: "key", v: "value"},
      point: (x, y) => `x ${x}, y ${y}`,
      queries: "Queries",
      scaled: "divide the scores by √d_k = √2",
      tied: "the values are the keys",
      reset: "Back to the start",
      caption: "Scores and weights of the keys",
      key: "key",
      score: (query) => `score ${query}`,
      weight: (query) => `weight ${query}`,
      type: "Type the numbers",
      typeCaption: "The vectors, from −4 to 4",
      vector: "vector",
      coordinate: (name, axis) => `${name}, ${axis}`,
      summary: (query, key, weight, output) =>
        `Query ${query}: the largest weight is ${weight}, that of key ${key}. Output ${output}.`,
    },
  });

  const LIMIT = 4; // the plane goes from −4 to 4
  const UNIT = 45; // pixels of the drawing, which is 400 wide
  const STEP = 0.1;
  const START = {
    q1: [3, 1], q2: [-1, 3],
    k1: [0, 2], k2: [1, 1], k3: [2, 0],
    v1: [-3, 2.5], v2: [-3, -2], v3: [2.5, -3],
  };
  const QUERIES = ["q1", "q2"];
  const KEYS = ["k1", "k2", "k3"];
  const VALUES = ["v1", "v2", "v3"];
  const CLASSES = {q: "query", k: "key", v: "value"};

  const place = ([x, y]) => [200 + UNIT * x, 200 - UNIT * y];
  const rounded = (x) => limit(Math.round(x / STEP) / (1 / STEP), -LIMIT, LIMIT);
  const written = ([x, y], digits = 2) => `(${number(x, digits)},\u00a0${number(y, digits)})`;
  const move = (element, point) =>
    element.setAttribute("transform", `translate(${place(point).join(" ")})`);
  function stretch(line, from, to) {
    const [[x1, y1], [x2, y2]] = [place(from), place(to)];
    for (const [name, x] of Object.entries({x1, y1, x2, y2})) line.setAttribute(name, x);
  }

  // Keys are discs, values squares, queries circles, outputs diamonds: no colour is needed.
  const SHAPES = {
    q: () => svg("circle", {class: "shape", r: 15}),
    k: () => svg("circle", {class: "shape", r: 15}),
    v: () => svg("rect", {class: "shape", x: -14, y: -14, width: 28, height: 28}),
    o: () => svg("path", {class: "shape", d: "M0 -10L10 0L0 10L-10 0Z"}),
  };

  function grid() {
    const lines = [];
    for (let i = -LIMIT; i <= LIMIT; i++) {
      const [x, y] = place([i, i]);
      const kind = i === 0 ? "axis" : "grid";
      const [low, high] = [place([-LIMIT, LIMIT])[0], place([LIMIT, LIMIT])[0]];
      lines.push(svg("line", {class: kind, x1: x, x2: x, y1: low, y2: high}));
      lines.push(svg("line", {class: kind, x1: low, x2: high, y1: y, y2: y}));
      if (i % 2 === 0) {
        lines.push(svg("text", {class: "tick", x, y: 391}, number(i, 0)));
        lines.push(svg("text", {class: "tick", x: 9, y}, number(i, 0)));
      }
    }
    return svg("g", {"aria-hidden": "true"}, ...lines);
  }

  define("vectors", (stage) => {
    const points = structuredClone(START);
    const options = {queries: 1, tied: false, scaled: true};
    let shown; // the latest result

    // The drawing, from back to front
    const triangle = svg("polygon", {class: "triangle"});
    const arrows = QUERIES.map(() => svg("line", {class: "arrow"}));
    const pulls = QUERIES.map(() => VALUES.map(() => svg("line", {class: "pull"})));
    const outputs = QUERIES.map((_, i) =>
      svg("g", {class: "output"}, SHAPES.o(), svg("text", {}, `o${i + 1}`)));
    const handles = {};
    for (const name of [...VALUES, ...KEYS, ...QUERIES]) handles[name] = handle(name);
    const plane = svg("svg", {
      class: "plane", viewBox: "0 0 400 400", role: "group", "aria-label": words.plane,
    },
    grid(),
    svg("g", {"aria-hidden": "true"}, triangle, ...pulls.flat(), ...arrows),
    ...Object.values(handles),
    svg("g", {"aria-hidden": "true"}, ...outputs));

    // The numbers
    const cells = QUERIES.map(() => KEYS.map(() => ({
      score: html("td"), weight: html("span"), bar: html("span"),
    })));
    const columns = QUERIES.map((query) => [
      html("th", {scope: "col"}, words.score(query)),
      html("th", {scope: "col"}, words.weight(query)),
    ]);
    const weightCells = cells.map((column) => column.map(({weight, bar}) =>
      html("td", {}, weight, html("span", {class: "weight-bar", "aria-hidden": "true"}, bar))));
    const table = html("table", {},
      html("caption", {}, words.caption),
      html("thead", {}, html("tr", {}, html("th", {scope: "col"}, words.key), ...columns.flat())),
      html("tbody", {}, ...KEYS.map((key, j) =>
        html("tr", {}, html("th", {scope: "row"}, key),
          ...QUERIES.flatMap((_, i) => [cells[i][j].score, weightCells[i][j]])))));
    const sums = QUERIES.map(() => html("p", {class: "sum"}));

    const fields = {};
    const rows = Object.keys(START).map((name) => {
      fields[name] = ["x", "y"].map((axis, c) => numberField(
        {min: -LIMIT, max: LIMIT, step: STEP, "aria-label": words.coordinate(name, axis)},
        points[name][c],
        (x) => { points[name][c] = x; draw({typed: fields[name][c]}); }));
      return html("tr", {}, html("th", {scope: "row"}, name),
        ...fields[name].map((field) => html("td", {}, field)));
    });
    const typed = html("details", {}, html("summary", {}, words.type),
      html("table", {}, html("caption", {}, words.typeCaption),
        html("thead", {}, html("tr", {},
          ...[words.vector, "x", "y"].map((word) => html("th", {scope: "col"}, word)))),
        html("tbody", {}, ...rows)));

    const controls = html("div", {class: "controls"},
      choice(words.queries, {1: "1", 2: "2"}, options.queries,
        (n) => { options.queries = Number(n); draw(); }),
      checkbox(words.scaled, options.scaled, (on) => { options.scaled = on; draw(); }),
      checkbox(words.tied, options.tied, (on) => { options.tied = on; draw(); }),
      button(words.reset, () => { Object.assign(points, structuredClone(START)); draw(); }));
    build(stage, plane, html("div", {class: "side"}, controls, table, ...sums, typed));
    const announce = announcer(stage);

    // A point that mouse, touch and arrow keys move. A slider is the role whose arrow keys a screen
    // reader leaves to the page.
    function handle(name) {
      const kind = CLASSES[name[0]];
      const element = svg("g", {
        class: `handle ${kind}`, tabindex: 0, role: "slider",
        "aria-label": `${words.handle[name[0]]} ${name[1]}`,
        "aria-valuemin": -LIMIT, "aria-valuemax": LIMIT,
        keydown: (event) => {
          const direction = {
            ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1],
          }[event.key];
          if (!direction || event.ctrlKey || event.altKey || event.metaKey) return;
          event.preventDefault();
          const step = event.shiftKey ? 1 : STEP;
          shift(name, points[name].map((x, c) => x + step * direction[c]));
        },
        touchstart: (event) => event.preventDefault(), // else the browser scrolls the page
        pointerdown: (event) => {
          if (event.button !== 0) return;
          const [x, y] = pointed(event);
          offset = [points[name][0] - x, points[name][1] - y];
          element.setPointerCapture(event.pointerId);
        },
        pointermove: (event) => {
          if (!element.hasPointerCapture(event.pointerId)) return;
          shift(name, pointed(event).map((x, c) => x + offset[c]));
        },
      },
      svg("circle", {class: "ring", r: 20}), SHAPES[name[0]](), svg("text", {}, name));
      let offset = [0, 0]; // the handle is seldom caught at its very centre
      return element;
    }

    // Where in the plane the pointer is
    function pointed(event) {
      const at = new DOMPoint(event.clientX, event.clientY)
        .matrixTransform(plane.getScreenCTM().inverse());
      return [(at.x - 200) / UNIT, (200 - at.y) / UNIT];
    }

    function shift(name, point) {
      points[name] = point.map(rounded);
      draw();
    }

    function compute() {
      const query = QUERIES.slice(0, options.queries).map((name) => points[name]); // (n_q, 2)
      const key = KEYS.map((name) => points[name]); // (3, 2)
      const value = options.tied ? key : VALUES.map((name) => points[name]); // (3, 2)
      const scale = options.scaled ? Math.SQRT2 : 1;
      return {query, key, value, scale, ...attention(query, key, value, {scale})};
    }

    function draw({typed = null, first = false} = {}) {
      shown = compute();
      for (const [name, element] of Object.entries(handles)) {
        const [x, y] = points[name];
        const gone = (name === "q2" && options.queries === 1) || (name[0] === "v" && options.tied);
        element.toggleAttribute("hidden", gone);
        move(element, points[name]);
        element.setAttribute("aria-valuenow", x);
        element.setAttribute("aria-valuetext", words.point(number(x, 1), number(y, 1)));
        fields[name].forEach((field, c) => {
          field.disabled = gone;
          if (field !== typed) field.value = Number(points[name][c].toFixed(3));
        });
      }
      triangle.setAttribute("points", shown.value.map((value) => place(value).join()).join(" "));
      QUERIES.forEach((query, i) => {
        const gone = i >= options.queries;
        const parts = [arrows[i], outputs[i], sums[i], ...columns[i], ...pulls[i], ...weightCells[i],
          ...cells[i].map(({score}) => score)];
        for (const part of parts) part.toggleAttribute("hidden", gone);
        if (gone) return;
        const {scores, weights, output, value} = shown;
        stretch(arrows[i], [0, 0], points[query]);
        move(outputs[i], output[i]);
        // The name stands on the side of the middle, where there is room.
        outputs[i].lastChild.setAttribute("x", output[i][0] > 0 ? -22 : 22);
        outputs[i].lastChild.setAttribute("y", output[i][1] > 0 ? 16 : -16);
        weights[i].forEach((weight, j) => {
          stretch(pulls[i][j], output[i], value[j]);
          pulls[i][j].setAttribute("stroke-width", 0.5 + 9 * weight);
          cells[i][j].score.textContent = number(scores[i][j]);
          cells[i][j].weight.textContent = number(weight);
          cells[i][j].bar.style.width = `${100 * weight}%`;
        });
        const names = options.tied ? KEYS : VALUES;
        const terms = weights[i].map((weight, j) => `${number(weight)} ${names[j]}`);
        sums[i].textContent = `o${i + 1} = ${terms.join(" + ")} = ${written(output[i])}`;
      });
      if (!first) announce(spoken());
    }

    function spoken() {
      return shown.weights.map((row, i) => {
        const best = row.indexOf(Math.max(...row));
        return words.summary(i + 1, best + 1, number(row[best]), written(shown.output[i]));
      }).join(" ");
    }

    draw({first: true});
    return {values: () => structuredClone({...shown, points, options})};
  });
})();
