// The errata page's filter. Without it the page shows all entries and no controls.
// What is chosen stands in the address, so that a filtered view can be linked to.
(() => {
  const form = document.querySelector(".errata-filter");
  if (!form) return;
  const entries = [...document.querySelectorAll(".erratum")].map((element) => ({
    element,
    text: element.textContent.toLowerCase(),
  }));
  const groups = [...document.querySelectorAll(".errata-document")];
  const status = form.querySelector("[role=status]");
  const names = ["document", "kind", "verdict", "text"];

  const fits = ({ element, text }) =>
    ["document", "kind", "verdict"].every((name) => {
      const chosen = form.elements[name].value;
      return !chosen || element.classList.contains(`${name}-${chosen}`);
    }) && text.includes(form.elements.text.value.trim().toLowerCase());

  const show = () => {
    let shown = 0;
    for (const entry of entries) {
      entry.element.hidden = !fits(entry);
      shown += !entry.element.hidden;
    }
    for (const group of groups) {
      group.hidden = !group.querySelector(".erratum:not([hidden])");
    }
    status.textContent = status.dataset.template
      .replace("{shown}", shown)
      .replace("{all}", entries.length);
  };

  const remember = () => {
    const address = new URL(location);
    for (const name of names) {
      const value = form.elements[name].value.trim();
      if (value) address.searchParams.set(name, value);
      else address.searchParams.delete(name);
    }
    history.replaceState(null, "", address);
  };

  const change = () => {
    show();
    remember();
  };

  const chosen = new URLSearchParams(location.search);
  for (const name of names) {
    form.elements[name].value = chosen.get(name) ?? "";
    if (form.elements[name].selectedIndex === -1) form.elements[name].value = "";
  }
  form.addEventListener("input", change);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(change)); // after the fields are empty
  form.hidden = false;
  show();

  // A link to an entry shows it, whatever is chosen.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const hidden = target?.closest("[hidden]");
    if (!hidden) return;
    form.reset();
    setTimeout(() => target.scrollIntoView());
  };
  addEventListener("hashchange", reveal);
  reveal();
})();
