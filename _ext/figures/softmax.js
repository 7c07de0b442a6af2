// Five scores and a temperature, to move; the weights and their entropy follow.
// Needs attention.js and controls.js.
(() => {
  const {announcer, build, button, choice, define, html, number, softmaxRow} =
    window.attentionFigures;

  const words = window.attentionFigures.words({
    en: {
      caption: "Five keys, their scores and their weights",
      key: "key",
      scoreOf: (j) => `score of key ${j}`,
      moveScore: "move the score",
      score: "score",
      weight: "weight",
      temperature: "Temperature T",
      width: "Scores divided by",
      widths: (d) => (d === 1 ? "nothing" : `√${d} = ${Math.sqrt(d)}`),
      shift: (by) => `${by > 0 ? "Add" : "Subtract"} 1 ${by > 0 ? "to" : "from"} all scores`,
      reset: "Back to the start",
      entropy: (entropy, largest) => `Entropy ${entropy} of at most ln 5 = ${largest}`,
      largest: (weight) => `largest weight ${weight}`,
      unchanged: "All five scores moved by one: no weight changed by more than 10⁻¹².",
      changed: (most) => `All five scores moved by one: a weight changed by ${most}.`,
    },
  });

  const START = [-1, 0, 1, 2, 2.5];
  const LIMIT = 10;
  const STEP = 0.1;
  const WIDTHS = [1, 4, 16, 64, 256, 1024];
  // The slider of the temperature goes in equal steps of its logarithm, from 1/20 to 20.
  const STEPS = 100;
  const temperatureAt = (place) => 20 ** (place / STEPS);

  // In nats. No weight is zero: scores differ by 20 at most, T is 1/20 at least, and e to the −400
  // is still a number.
  const entropyOf = (weights) => -weights.reduce((sum, w) => sum + w * Math.log(w), 0);

  define("softmax", (stage) => {
    let scores = [...START];
    let warmth = 0; // the place of the slider: T = 1
    let width = 1;
    let shown;

    const keys = START.map((_, j) => {
      const slider = html("input", {
        type: "range", min: -LIMIT, max: LIMIT, step: STEP, "aria-label": words.scoreOf(j + 1),
        input: () => { scores[j] = slider.valueAsNumber; draw(); },
      });
      return {slider, score: html("td"), bar: html("span"), weight: html("span")};
    });
    const head = [["of-key", words.key], ["", words.moveScore], ["of-score", words.score],
      ["of-weight", words.weight]];
    const table = html("table", {}, html("caption", {}, words.caption),
      html("thead", {}, html("tr", {}, ...head.map(([name, word]) =>
        html("th", {scope: "col", class: name}, name ? word : html("span", {class: "unseen"}, word))))),
      html("tbody", {}, ...keys.map(({slider, score, bar, weight}, j) =>
        html("tr", {}, html("th", {scope: "row"}, String(j + 1)), html("td", {}, slider), score,
          html("td", {}, html("div", {class: "weight"},
            html("span", {class: "weight-bar", "aria-hidden": "true"}, bar), weight))))));

    const temperature = html("input", {
      id: "figure-temperature", type: "range", min: -STEPS, max: STEPS, step: 1,
      input: () => { warmth = temperature.valueAsNumber; draw(); },
    });
    const degrees = html("output", {for: "figure-temperature"});
    const widths = choice(words.width,
      Object.fromEntries(WIDTHS.map((d) => [d, words.widths(d)])), width,
      (d) => { width = Number(d); draw(); });
    const shifts = [1, -1].map((by) => button(words.shift(by), () => shift(by)));
    const reset = button(words.reset, () => {
      [scores, warmth, width] = [[...START], 0, 1];
      widths.querySelector("select").value = width;
      draw();
    });
    const result = html("p", {class: "sum"});
    const note = html("p", {class: "sum"});
    build(stage,
      table,
      html("div", {class: "controls"},
        html("span", {class: "control wide"},
          html("label", {for: temperature.id}, words.temperature), temperature, degrees),
        widths),
      html("div", {class: "controls"}, ...shifts, reset),
      result, note);
    const announce = announcer(stage);

    // Rounded, for sliders stand on tenths and sums of tenths do not.
    const moved = (by) => scores.map((score) => Math.round(10 * (score + by)) / 10);
    const fits = (by) => moved(by).every((score) => Math.abs(score) <= LIMIT);

    function shift(by) {
      const before = shown.weights;
      scores = moved(by);
      draw();
      const most = Math.max(...before.map((weight, j) => Math.abs(weight - shown.weights[j])));
      note.textContent = most < 1e-12 ? words.unchanged : words.changed(number(most, 4));
      announce(note.textContent);
    }

    function draw({first = false} = {}) {
      const T = temperatureAt(warmth);
      const weights = softmaxRow(scores.map((score) => score / (Math.sqrt(width) * T)));
      const entropy = entropyOf(weights);
      shown = {scores: [...scores], temperature: T, width, weights, entropy};

      keys.forEach(({slider, score, bar, weight}, j) => {
        slider.value = scores[j];
        slider.setAttribute("aria-valuetext", number(scores[j], 1));
        score.textContent = number(scores[j], 1);
        bar.style.width = `${100 * weights[j]}%`;
        weight.textContent = number(weights[j], 3);
      });
      temperature.value = warmth;
      degrees.textContent = number(T);
      temperature.setAttribute("aria-valuetext", number(T));
      shifts.forEach((element, s) => { element.disabled = !fits([1, -1][s]); });
      const texts = [words.entropy(number(entropy, 3), number(Math.log(START.length), 3)),
        words.largest(number(Math.max(...weights), 3))];
      result.textContent = `${texts.join("; ")}.`;
      note.textContent = "";
      if (!first) announce(result.textContent);
    }

    draw({first: true});
    return {values: () => structuredClone(shown)};
  });
})();
