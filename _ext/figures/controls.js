// What the figures are made of: elements, labelled native controls, and a summary for those who
// listen.
(() => {
  const SVG = "http://www.w3.org/2000/svg";

  function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") element.addEventListener(name, value);
      else if (typeof value === "boolean") element.toggleAttribute(name, value);
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  // html("button", {type: "button", click: () => ...}, "text or elements", ...)
  const html = (tag, attributes = {}, ...children) =>
    fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes = {}, ...children) =>
    fill(document.createElementNS(SVG, tag), attributes, children);

  // With a true minus sign, and without one before a zero.
  function number(x, digits = 2) {
    const text = x.toFixed(digits);
    return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "\u2212");
  }

  const limit = (x, low, high) => Math.min(high, Math.max(low, x));

  const button = (label, click) => html("button", {type: "button", click}, label);

  function checkbox(label, checked, change) {
    const input = html("input", {type: "checkbox", checked, change: () => change(input.checked)});
    return html("label", {class: "control"}, input, label);
  }

  // options: {value: text}
  let choices = 0;
  function choice(label, options, value, change) {
    const entries = Object.entries(options).map(([name, text]) =>
      html("option", {value: name, selected: name === String(value)}, text));
    const id = `figure-choice-${choices++}`;
    const select = html("select", {id, change: () => change(select.value)}, ...entries);
    // Beside the label: within it the options' texts would be part of the name.
    return html("span", {class: "control"}, html("label", {for: id}, label), select);
  }

  // A field for a number from min to max. While it holds anything else nothing changes.
  function numberField(attributes, value, change) {
    const input = html("input", {
      type: "number", value, ...attributes,
      input: () => {
        const {valueAsNumber: x, validity} = input;
        if (Number.isFinite(x) && !validity.rangeUnderflow && !validity.rangeOverflow) change(x);
      },
    });
    return input;
  }

  // Puts the parts of a figure on its stage, in the common style.
  function build(stage, ...parts) {
    stage.classList.add("kit");
    stage.append(...parts);
  }

  // Reads a summary out once the reader pauses, not at every step of a drag.
  function announcer(stage) {
    const region = html("p", {class: "unseen", role: "status"});
    stage.append(region);
    let waiting;
    return (text) => {
      clearTimeout(waiting);
      waiting = setTimeout(() => { region.textContent = text; }, 800);
    };
  }

  Object.assign(window.attentionFigures, {
    announcer, build, button, checkbox, choice, html, limit, number, numberField, svg,
  });
})();
