// A sentence to type, a mask to choose: which word may attend to which, and with what weight.
// Needs attention.js and controls.js.
(() => {
  const {announcer, attention, build, causalMask, checkbox, choice, define, html, limit, number,
    numberField, scores: dotProducts, softmax, weightedSum, windowMask} = window.attentionFigures;

  const words = window.attentionFigures.words({
    en: {
      start: "we eat honey with lemon",
      padding: "[pad]",
      sentence: "Sentence, of 2 to 12 words",
      tooFew: "Type at least two words; the figure shows the last sentence that had them.",
      tooMany: (n) => `Only the first ${n} words are used.`,
      padded: "padded places",
      masks: "Masks, combined with &:",
      causal: "causal",
      window: "window",
      left: "left",
      right: "right",
      real: "hide the padding",
      positions: "Positions",
      positionNames: {none: "none", sinusoidal: "sinusoidal", rotary: "rotary", alibi: "ALiBi"},
      grid: "Weights: a row for each query, a column for each key",
      hidden: "masked",
      hatched: "Hatched cells are masked.",
      counted: (allowed, all) => `${allowed} of ${all} pairs of query and key are allowed.`,
      empty: (queries) => `${queries.length === 1 ? "Query" : "Queries"} ${queries.join(", ")} may ` +
        "attend to nothing. The weights are zero there: that is the convention of this course.",
    },
  });

  const WIDTH = 8; // d_k of the made-up vectors
  const MOST = 12; // places, padded ones included
  const MOST_PADDED = 4;
  const SLOPE = 0.5; // of ALiBi's first head of eight

  // A vector made up from a word: with the code points c_1, c_2, … of its characters and
  // z = 1·c_1 + 2·c_2 + …, feature f is the sine of (f + 1)·z. Nothing is learned; another
  // word gets another vector, the same word always the same.
  function madeUpVector(word) {
    const z = [...word].reduce((sum, letter, t) => sum + (t + 1) * letter.codePointAt(0), 0);
    return Array.from({length: WIDTH}, (_, f) => Math.sin((f + 1) * z));
  }

  const angle = (position, pair) => position * 10000 ** (-2 * pair / WIDTH);

  const sinusoidal = (n) => Array.from({length: n}, (_, position) =>
    Array.from({length: WIDTH}, (_, c) => {
      const turn = angle(position, Math.floor(c / 2));
      return c % 2 ? Math.cos(turn) : Math.sin(turn);
    }));

  // Pair (2i, 2i + 1) of each row turns by an angle that grows with the row's position.
  const rotated = (rows) => rows.map((row, position) => row.map((x, c) => {
    const turn = angle(position, Math.floor(c / 2));
    return c % 2
      ? row[c - 1] * Math.sin(turn) + x * Math.cos(turn)
      : x * Math.cos(turn) - row[c + 1] * Math.sin(turn);
  }));

  // Queries, keys and values are the vectors themselves.
  function attend(x, mask, positions) {
    const n = x.length;
    if (positions === "alibi") {
      const s = dotProducts(x, x, Math.sqrt(WIDTH)).map((row, i) =>
        row.map((score, j) => score - SLOPE * Math.abs(i - j)));
      const weights = softmax(s, mask);
      return {scores: s, weights, output: weightedSum(weights, x)};
    }
    if (positions === "rotary") return attention(rotated(x), rotated(x), x, {mask});
    if (positions === "sinusoidal") {
      const added = sinusoidal(n);
      x = x.map((row, i) => row.map((entry, c) => entry + added[i][c]));
    }
    return attention(x, x, x, {mask});
  }

  define("masks", (stage) => {
    const options = {
      sentence: words.start, padded: 0, causal: false, window: false, left: 1, right: 1, real: false,
      positions: "none",
    };
    let sentence = split(options.sentence);
    let shown;

    const change = (name) => (value) => { options[name] = value; draw(); };
    const text = html("input", {
      type: "text", value: options.sentence, maxlength: 120, autocomplete: "off", spellcheck: "false",
      input: () => { options.sentence = text.value; draw(); },
    });
    const problem = html("p", {class: "note", role: "status"});
    const padded = numberField({min: 0, max: MOST_PADDED, step: 1}, options.padded, whole("padded"));
    const sides = ["left", "right"].map((side) =>
      numberField({min: 0, max: MOST, step: 1}, options[side], whole(side)));
    const table = html("table", {"aria-label": words.grid});
    // A long sentence is wider than a telephone: then the table scrolls in its box.
    const scrolls = html("div", {
      class: "scrolls", tabindex: 0, role: "region", "aria-label": words.grid,
    }, table);
    const note = html("p", {class: "note"});
    build(stage,
      html("div", {class: "controls"},
        html("label", {class: "control sentence"}, html("span", {}, words.sentence), text),
        html("label", {class: "control"}, words.padded, padded),
        choice(words.positions, words.positionNames, options.positions, change("positions"))),
      html("fieldset", {class: "controls"}, html("legend", {}, words.masks),
        checkbox(words.causal, options.causal, change("causal")),
        html("span", {class: "control"},
          checkbox(words.window, options.window, change("window")),
          ...sides.map((field, s) => html("label", {class: "control"}, words[["left", "right"][s]], field))),
        checkbox(words.real, options.real, change("real"))),
      problem, html("p", {class: "note"}, words.grid), scrolls, note);
    const announce = announcer(stage);

    function whole(name) {
      return (x) => { if (Number.isInteger(x)) change(name)(x); };
    }

    function split(text) {
      return text.split(/\s+/u).filter(Boolean);
    }

    function compute() {
      const n_real = sentence.length;
      const n_padded = Math.min(options.padded, MOST - n_real);
      const tokens = [...sentence, ...Array(n_padded).fill(words.padding)];
      const n = tokens.length;
      const all = windowMask(n, n, null, null);
      const masks = [
        options.causal ? causalMask(n, n) : all,
        options.window ? windowMask(n, n, options.left, options.right) : all,
        options.real ? all.map((row) => row.map((_, j) => j < n_real)) : all,
      ];
      const mask = all.map((row, i) => row.map((_, j) => masks.every((one) => one[i][j])));
      return {tokens, n_real, mask, ...attend(tokens.map(madeUpVector), mask, options.positions)};
    }

    function draw({first = false} = {}) {
      const typed = split(options.sentence);
      if (typed.length >= 2) sentence = typed.slice(0, MOST);
      const warning = typed.length < 2 ? words.tooFew : typed.length > MOST ? words.tooMany(MOST) : "";
      if (problem.textContent !== warning) problem.textContent = warning;
      shown = compute();
      const {tokens, mask, weights, n_real} = shown;
      for (const field of sides) field.disabled = !options.window;

      const empty = mask.flatMap((row, i) => (row.some(Boolean) ? [] : [i]));
      const heading = (scope) => (token, i) =>
        html("th", {scope, class: i < n_real ? "" : "padded", title: token}, html("span", {}, `${i} ${token}`));
      table.replaceChildren(
        html("thead", {}, html("tr", {}, html("td"), ...tokens.map(heading("col")))),
        html("tbody", {}, ...tokens.map((token, i) => html("tr", {}, heading("row")(token, i),
          ...mask[i].map((allowed, j) => cell(allowed, weights[i][j], empty.includes(i)))))));

      const allowed = mask.flat().filter(Boolean).length;
      const sentences = [words.counted(allowed, tokens.length ** 2)];
      if (allowed < tokens.length ** 2) sentences.push(words.hatched);
      if (empty.length) sentences.push(words.empty(empty));
      note.textContent = sentences.join(" ");
      if (!first) announce(note.textContent);
    }

    function cell(allowed, weight, inEmptyRow) {
      if (!allowed) {
        return html("td", {class: "hidden-key"}, inEmptyRow ? number(weight, 0) : "",
          html("span", {"aria-hidden": "true"}, inEmptyRow ? "" : "×"),
          html("span", {class: "unseen"}, words.hidden));
      }
      // Never the full colour, so that the number is read on all of them.
      const element = html("td", {class: "allowed"}, number(weight));
      element.style.setProperty("--share", `${limit(42 * weight, 0, 42)}%`);
      return element;
    }

    draw({first: true});
    return {values: () => structuredClone({...shown, options})};
  });
})();
