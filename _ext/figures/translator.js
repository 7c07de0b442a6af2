// A trained Transformer translates a date in the page, character by character, and shows where
// each of its heads looks. Needs attention.js, controls.js, transformer.js, translator_model.js.
(() => {
  const {build, html, softmaxRow, transformer, translatorModel: stored} = window.attentionFigures;

  const style = html("link", {
    rel: "stylesheet", href: new URL("translator.css", document.currentScript.src),
  });
  const styled = new Promise((resolve) => { style.onload = style.onerror = resolve; });
  document.head.append(style);

  const words = window.attentionFigures.words({
    en: {
      source: "Text to translate",
      examples: "Examples",
      ownText: "my own text",
      example: {
        heldOut: "a year held out of training",
        mistake: "a mistake: 11 becomes 1",
        weekday: "a wrong weekday",
        later: "a century never seen",
        noDate: "no date at all",
      },
      next: "Write the next character",
      all: "Write to the end",
      back: "Back to the start",
      translation: "Translation",
      translationHelp: "choose a character to see the step that wrote it",
      candidates: (n, tail) =>
        `Likeliest characters in step ${n}${tail ? `, after “${tail}”` : ", to begin with"}`,
      candidatesHelp: "choose one to write it here, the first or another",
      crossTitle: (n) => `Cross-attention: where step ${n} looks in the source`,
      ownTitle: (n) => `Self-attention of the decoder: where step ${n} looks in what is written`,
      ownHelp: "characters without bars come later than this step, which cannot see them",
      encoderTitle: (what, n) =>
        `Self-attention of the encoder: where ${what}, place ${n}, looks in the source`,
      encoderHelp: "choose the character that looks",
      head: (h) => `head ${h}`,
      most: (h, what, place, weight) => `head ${h}: ${weight} at ${what} (${place})`,
      mostHelp: "largest weight of each head, with the place of its character:",
      numbers: "All weights of this step in numbers",
      place: "place",
      character: "character",
      crossTable: "Cross-attention",
      ownTable: "Self-attention of the decoder",
      encoderTable: "Self-attention of the encoder",
      begin: "begin",
      end: "end",
      toCome: "?",
      space: "space",
      quoted: (character) => `“${character}”`,
      step: (label, n) => `${label}, step ${n}`,
      placeOf: (label, n) => `${label}, place ${n}`,

      toWrite: "is to be written",
      nothing: "Nothing is written yet.",
      soFar: (text) => `Written so far: ${text}`,
      right: (text) => `Finished, and right: ${text}`,
      wrong: (text, truth) => `Finished, and wrong: ${text}. Right is: ${truth}`,
      noTruth: (text) =>
        `Finished: ${text}. What it read is no date in the form “Saturday, May 14, 2039”, ` +
        "so there is nothing right to write.",
      brokenOff: (n) => `Broken off after ${n} characters.`,
      year: {
        heldOut: "The year was held out: the model never saw it in training.",
        known: "The year was used in training or validation.",
        unknown: "The year lies outside those of training, 1900 to 2099.",
      },
      empty: "There is nothing to translate.",
      tooLong: (n) => `The model has ${n} positions, and the text more characters.`,
      unknown: (characters) =>
        `The model has never seen ${characters}. It knows the letters that occur in English and ` +
        "Hungarian dates, digits, the space, the comma and the full stop.",
      note: ({dates, heldOut, later}) =>
        `This model translates ${heldOut} of ${dates} dates of held-out years without a mistake, ` +
        `and ${later} of ${dates} dates from 2100 to 2199. The weights show where a head looks. ` +
        "They do not show why, nor what the network makes of it.",
    },
  });

  const {begin, end, pad, written: longest, max_length: maxLength} = stored.settings;
  const FIRST = end + 1; // the token of the first character
  const CANDIDATES = 5;
  const TAIL = 8; // characters of what is written that a title quotes
  const LONGEST_BLOCK = 11; // characters that stand together on a narrow screen

  const isSpecial = (token) => token < FIRST;
  const character = (token) => stored.characters[token - FIRST];
  const argmax = (row) => row.indexOf(Math.max(...row));

  // A token as it is shown: a space has to be seen.
  function label(token) {
    if (isSpecial(token)) return token === begin ? words.begin : words.end;
    return character(token) === " " ? "␣" : character(token);
  }

  const spoken = (token) =>
    character(token) === " " ? `${label(token)} ${words.space}` : label(token);

  const quoted = (token) => (isSpecial(token) ? label(token) : words.quoted(label(token)));
  const percent = (p) => (p < 0.0005 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`);

  // What the source says in Hungarian, or null where it is no date in the form of the training.
  // A weekday that does not fit the day is translated all the same: the text is the task.
  function truth(source) {
    const found = source.match(/^(\w+), (\w+) ([1-9]\d?), (\d{4})$/);
    const weekday = found && stored.names.weekdays[found[1]];
    const month = found && stored.names.months[found[2]];
    return weekday && month ? `${found[4]}. ${month} ${found[3]}., ${weekday}` : null;
  }

  function yearNote(source) {
    const year = Number(source.match(/\d{4}$/)?.[0]);
    if (truth(source) === null) return "";
    if (stored.heldOutYears.includes(year)) return words.year.heldOut;
    return year >= 1900 && year < 2100 ? words.year.known : words.year.unknown;
  }

  // What is wrong with a text as a source, or null.
  function problem(text) {
    if (!text) return words.empty;
    const unknown = [...new Set(text)].filter((letter) => !stored.characters.includes(letter));
    if (unknown.length) return words.unknown(unknown.map(words.quoted).join(" "));
    return text.length > maxLength ? words.tooLong(maxLength) : null;
  }

  // One translation: the source is read once, then step i predicts what follows tokens 0 to i.
  class Translation {
    constructor(model, source) {
      this.model = model;
      this.source = source;
      this.sourceTokens = [...source].map((letter) => stored.characters.indexOf(letter) + FIRST);
      const {memory, weights} = transformer.encode(model, this.sourceTokens);
      this.memory = memory;
      this.encoderWeights = weights; // for each layer (n_heads, n_source, n_source)
      this.restart();
    }

    restart() {
      this.caches = transformer.newCaches(this.model, this.memory);
      this.tokens = []; // those that the decoder has read: "begin", and what is written
      this.steps = [];
      this.ended = false;
      this.read(begin);
    }

    read(token) {
      const {logits, own, cross} = transformer.decode(this.model, [token], this.caches);
      const last = (layers) => layers.map((heads) => heads.map((rows) => rows[0]));
      this.tokens.push(token);
      this.steps.push({
        probabilities: softmaxRow(logits[0]), // (n_tokens,)
        own: last(own), // for each layer (n_heads, i + 1)
        cross: last(cross), // for each layer (n_heads, n_source)
      });
    }

    get written() { return this.tokens.slice(1).map(character).join(""); }

    get brokenOff() { return !this.ended && this.written.length >= longest; }

    get finished() { return this.ended || this.brokenOff; }

    // What step i wrote; undefined where that is still to come.
    tokenOf(i) {
      if (i + 1 < this.tokens.length) return this.tokens[i + 1];
      return this.ended ? end : undefined;
    }

    // Tokens from the likeliest on; "begin" and padding are never written.
    ranked(i) {
      const {probabilities} = this.steps[i];
      return [...probabilities.keys()]
        .filter((token) => token !== begin && token !== pad)
        .sort((a, b) => probabilities[b] - probabilities[a]);
    }

    // Write a token in step i. What was written from there on is given up.
    write(token, i = this.steps.length - 1) {
      if (i < this.steps.length - 1) {
        const kept = this.tokens.slice(1, i + 1);
        this.restart();
        kept.forEach((one) => this.read(one));
      }
      this.ended = token === end;
      if (!this.ended) this.read(token);
    }

    writeLikeliest() { this.write(this.ranked(this.steps.length - 1)[0]); }
  }

  // Items in blocks that end with a word, so that a line breaks between words.
  function blocks(items) {
    const all = [[]];
    for (const item of items) {
      const block = all.at(-1);
      block.push(item);
      if (item.breaks || block.length === LONGEST_BLOCK) all.push([]);
    }
    return all.filter((block) => block.length);
  }

  // Characters in a row, each with a bar for each head under it. Items: {label, name, breaks}.
  // With `choose`, one of the characters is chosen, by mouse, finger or arrow keys.
  class Row {
    constructor(place, {heads = [], choose, name}) {
      this.heads = heads;
      this.choose = choose;
      this.element = html("div", {class: "characters"});
      if (choose) {
        this.element.setAttribute("role", "radiogroup");
        this.element.setAttribute("aria-label", name);
        this.element.addEventListener("keydown", (event) => this.move(event));
      } else {
        this.element.setAttribute("aria-hidden", "true"); // the line below says it in words
      }
      place.append(this.element);
    }

    draw(items) {
      const focused = this.element.contains(document.activeElement);
      this.tops = [];
      this.bars = [];
      this.element.replaceChildren(...blocks(items).map((block) => {
        const labels = html("div", {class: "labels", "aria-hidden": "true"}, "",
          ...this.heads.map((head) => html("span", {}, head)));
        return html("div", {class: "block"}, ...(this.heads.length ? [labels] : []),
          ...block.map((item) => this.column(item)));
      }));
      return focused;
    }

    column(item) {
      const i = this.tops.length;
      const top = this.choose
        ? html("button", {
          type: "button", role: "radio", class: "top", "aria-label": item.name, tabindex: -1,
          click: () => this.choose(i), pointerenter: () => this.choose(i),
        }, item.label)
        : html("span", {class: "top"}, item.label);
      const bars = this.heads.map(() => html("span", {class: "height"}));
      this.tops.push(top);
      this.bars.push(bars);
      return html("div", {class: "column"}, top,
        ...bars.map((bar) => html("span", {class: "cell", "aria-hidden": "true"}, bar)));
    }

    // weights (n_heads, n): bars for the first n characters, none for those after them
    fill(weights) {
      this.bars.forEach((bars, j) => {
        this.tops[j].parentElement.classList.toggle("later", weights[0][j] === undefined);
        bars.forEach((bar, h) => { bar.style.height = `${100 * (weights[h][j] ?? 0)}%`; });
      });
    }

    mark(chosen, focus) {
      this.chosen = chosen;
      this.tops.forEach((top, i) => {
        top.setAttribute("aria-checked", String(i === chosen));
        top.tabIndex = i === chosen ? 0 : -1;
      });
      if (focus) this.tops[chosen].focus();
    }

    move(event) {
      const last = this.tops.length - 1;
      const wanted = {
        ArrowLeft: this.chosen - 1, ArrowUp: this.chosen - 1,
        ArrowRight: this.chosen + 1, ArrowDown: this.chosen + 1, Home: 0, End: last,
      }[event.key];
      if (wanted === undefined) return;
      event.preventDefault(); // the page must not scroll
      this.choose(Math.min(Math.max(wanted, 0), last));
      this.tops[this.chosen].focus();
    }
  }

  // A titled part of the figure, with a line of help.
  function part(help) {
    const title = html("p", {class: "title"});
    const element = html("div", {class: "part"}, title);
    if (help) element.append(html("p", {class: "help"}, help));
    return {element, title};
  }

  function weightTable(caption, tokens, weights) {
    const header = [words.place, words.character, ...weights.map((_, h) => words.head(h + 1))];
    const body = tokens.map((token, j) => html("tr", {},
      html("td", {}, String(j + 1)), html("th", {scope: "row"}, label(token)),
      ...weights.map((row) => html("td", {}, row[j] === undefined ? "–" : row[j].toFixed(3)))));
    return html("table", {}, html("caption", {}, caption),
      html("thead", {}, html("tr", {}, ...header.map((text) => html("th", {scope: "col"}, text)))),
      html("tbody", {}, ...body));
  }

  function start(stage) {
    const model = transformer.unpack(stored);
    const nHeads = stored.settings.n_heads * stored.settings.n_layers; // of all layers
    const heads = Array.from({length: nHeads}, (_, h) => String(h + 1));
    let translation = null; // none while the text cannot be translated
    let shown = 0; // the step that is shown
    let looking = 0; // the character of the source whose self-attention is shown

    // The controls.
    const input = html("input", {
      type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false",
      "aria-describedby": "translator-problem", input: () => read(input.value),
    });
    const choice = html("select", {change: () => {
      if (choice.value) read((input.value = choice.value));
      else input.focus();
    }});
    choice.append(...Object.entries(stored.examples).map(([name, text]) =>
      html("option", {value: text}, words.example[name])),
    html("option", {value: ""}, words.ownText));
    const problemLine = html("p", {class: "problem", id: "translator-problem", role: "alert"});
    // A button that can do nothing keeps the focus, so it is not disabled but says that it is.
    const button = (text, act) => html("button", {
      type: "button", click: (event) => able(event.currentTarget) && act(),
    }, text);
    const able = (one) => one.getAttribute("aria-disabled") !== "true";
    const enable = (yes, ...some) =>
      some.forEach((one) => one.setAttribute("aria-disabled", String(!yes)));
    const next = button(words.next, () => write(1));
    const all = button(words.all, () => write(Infinity));
    const back = button(words.back, () => { translation.restart(); shown = 0; drawSteps(); });
    const status = html("p", {class: "status", role: "status"});
    const year = html("p", {class: "help"});

    // The parts below them.
    const strip = part(words.translationHelp);
    strip.title.textContent = words.translation;
    const steps = new Row(strip.element, {choose: show, name: words.translation});
    const candidates = part(words.candidatesHelp);
    const list = html("ol", {class: "candidates"});
    candidates.element.append(list);
    const cross = part();
    const crossRow = new Row(cross.element, {heads});
    const own = part(words.ownHelp);
    const ownRow = new Row(own.element, {heads});
    const encoder = part(words.encoderHelp);
    const encoderRow = new Row(encoder.element, {heads, choose: look, name: words.encoderHelp});
    const largest = Object.fromEntries(Object.entries({cross, own, encoder}).map(([name, one]) => {
      const line = html("ul", {class: "largest"});
      one.element.append(html("p", {class: "help"}, words.mostHelp), line);
      return [name, line];
    }));
    const tables = html("div", {class: "tables"});
    const numbers = html("details", {class: "numbers", toggle: drawTables},
      html("summary", {}, words.numbers), tables);
    const working = html("div", {class: "working"}, strip.element, candidates.element,
      cross.element, own.element, encoder.element, numbers);
    stage.hidden = true;
    styled.then(() => { stage.hidden = false; });
    build(stage, html("div", {class: "translator"},
      html("div", {class: "inputs"},
        html("label", {}, words.source, input), html("label", {}, words.examples, choice)),
      problemLine, year, html("div", {class: "buttons"}, next, all, back), status, working,
      html("p", {class: "note"}, words.note({
        dates: stored.accuracy.dates,
        heldOut: stored.accuracy["right, held out"],
        later: stored.accuracy["right, later"],
      }))));

    // A new text: read it, write nothing yet.
    function read(text) {
      const wrong = problem(text);
      problemLine.textContent = wrong ?? "";
      input.setAttribute("aria-invalid", String(wrong !== null));
      choice.value = [...choice.options].some((option) => option.value === text) ? text : "";
      working.hidden = wrong !== null;
      translation = wrong === null ? new Translation(model, text) : null;
      year.textContent = translation ? yearNote(text) : "";
      shown = looking = 0;
      if (!translation) {
        status.textContent = "";
        enable(false, next, all, back);
        return;
      }
      const tokens = translation.sourceTokens;
      const items = tokens.map((token, j) => ({
        label: label(token),
        name: words.placeOf(spoken(token), j + 1),
        breaks: label(token) === "␣",
      }));
      crossRow.draw(items);
      encoderRow.draw(items);
      look(0);
      drawSteps();
    }

    function write(n) {
      for (let i = 0; i < n && !translation.finished; i++) translation.writeLikeliest();
      shown = translation.steps.length - 1;
      drawSteps();
    }

    // After something was written: the strip, the status and the buttons.
    function drawSteps() {
      const items = translation.steps.map((_, i) => {
        const token = translation.tokenOf(i);
        const text = token === undefined ? words.toCome : label(token);
        const name = token === undefined ? `${text} ${words.toWrite}` : spoken(token);
        return {label: text, name: words.step(name, i + 1), breaks: text === "␣"};
      });
      if (translation.brokenOff) items.pop(); // its last prediction is never written
      shown = Math.min(shown, items.length - 1);
      const focused = steps.draw(items);
      ownRow.draw(translation.tokens.slice(0, items.length).map((token) => ({
        label: label(token), breaks: isSpecial(token) || label(token) === "␣",
      })));
      status.textContent = message();
      enable(!translation.finished, next, all);
      enable(translation.tokens.length > 1 || translation.ended, back);
      show(shown);
      if (focused) steps.mark(shown, true);
    }

    function message() {
      const {written, source} = translation;
      if (translation.brokenOff) return words.brokenOff(longest);
      if (!translation.ended) return written ? words.soFar(written) : words.nothing;
      const wanted = truth(source);
      if (wanted === null) return words.noTruth(written);
      return written === wanted ? words.right(written) : words.wrong(written, wanted);
    }

    // Show a step: what it could write, and where its heads look.
    function show(i) {
      shown = i;
      steps.mark(i);
      const step = translation.steps[i];
      const before = translation.written.slice(0, i);
      const tail = before.length > TAIL ? `…${before.slice(-TAIL)}` : before;
      candidates.title.textContent = words.candidates(i + 1, tail);
      drawCandidates(i);
      cross.title.textContent = words.crossTitle(i + 1);
      own.title.textContent = words.ownTitle(i + 1);
      crossRow.fill(step.cross.flat());
      ownRow.fill(step.own.flat());
      sayLargest(largest.cross, step.cross.flat(), translation.sourceTokens);
      sayLargest(largest.own, step.own.flat(), translation.tokens);
      drawTables();
    }

    // The buttons stay the same elements, so that the focus stays where it is.
    function drawCandidates(i) {
      const {probabilities} = translation.steps[i];
      while (list.children.length < CANDIDATES) {
        const one = html("button", {type: "button"});
        one.append(html("span", {class: "what"}), html("span", {class: "probability"}),
          html("span", {class: "track", "aria-hidden": "true"}, html("span", {class: "length"})));
        list.append(html("li", {}, one));
      }
      translation.ranked(i).slice(0, CANDIDATES).forEach((token, rank) => {
        const one = list.children[rank].firstChild;
        const [what, probability, track] = one.children;
        what.textContent = label(token);
        probability.textContent = percent(probabilities[token]);
        track.firstChild.style.width = `${100 * probabilities[token]}%`;
        one.onclick = () => {
          translation.write(token, i);
          shown = translation.steps.length - 1;
          drawSteps();
        };
      });
    }

    // Show where one character of the source looks in the encoder.
    function look(j) {
      looking = j;
      encoderRow.mark(j);
      const weights = encoderWeights();
      encoder.title.textContent = words.encoderTitle(quoted(translation.sourceTokens[j]), j + 1);
      encoderRow.fill(weights);
      sayLargest(largest.encoder, weights, translation.sourceTokens);
      drawTables();
    }

    const encoderWeights = () => translation.encoderWeights.flat().map((head) => head[looking]);

    // Where each head looks most, weights (n_heads, n).
    function sayLargest(line, weights, tokens) {
      line.replaceChildren(...weights.map((row, h) => {
        const j = argmax(row);
        return html("li", {}, words.most(h + 1, quoted(tokens[j]), j + 1, row[j].toFixed(2)));
      }));
    }

    function drawTables() {
      if (!numbers.open || !translation) return;
      const step = translation.steps[shown];
      tables.replaceChildren(
        weightTable(words.crossTable, translation.sourceTokens, step.cross.flat()),
        weightTable(words.ownTable, translation.tokens.slice(0, shown + 1), step.own.flat()),
        weightTable(words.encoderTable, translation.sourceTokens, encoderWeights()),
      );
    }

    input.value = stored.examples.heldOut;
    read(input.value);

    return {values: () => translation && {
      source: translation.source,
      tokens: translation.tokens,
      written: translation.written,
      finished: translation.finished,
      shown,
      looking,
      steps: translation.steps,
      encoderWeights: translation.encoderWeights,
    }};
  }

  window.attentionFigures.define("translator", start);
})();
