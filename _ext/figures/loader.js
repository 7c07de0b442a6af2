// Starts the interactive figures of a page, each when the reader comes near it.
//
// A figure's script registers how it starts:
//
//   attentionFigures.define("softmax", (stage) => {
//     ...                                   // builds its controls and drawings inside the stage
//     return {values: () => ({...})};       // all numbers that it shows, as plain data
//   });
//
// `values` is what the tests compare with the package. Its result stands at the place's element:
// document.querySelector("[data-interactive=softmax]").figure.values().
(() => {
  const definitions = {};
  const loaded = {};
  const base = new URL(".", document.currentScript.src);

  const attentionFigures = {
    define(name, start) { definitions[name] = start; },

    // The words of a figure in the page's language, English where there are none.
    words(byLanguage) {
      const language = (document.documentElement.lang || "en").split("-")[0];
      return {...byLanguage.en, ...byLanguage[language]};
    },
  };
  window.attentionFigures = attentionFigures;

  function load(script) {
    loaded[script] ??= new Promise((resolve, reject) => {
      const element = document.createElement("script");
      element.src = new URL(script, base);
      element.onload = resolve;
      element.onerror = () => reject(new Error(`${script} could not be loaded`));
      document.head.append(element);
    });
    return loaded[script];
  }

  // The image of the static figure; its caption stays.
  function replaced(place) {
    const figure = document.getElementById(place.dataset.replaces);
    return figure && figure.querySelector("img");
  }

  async function start(place) {
    const stage = place.querySelector(".stage");
    try {
      for (const script of place.dataset.scripts.split(" ")) await load(script);
      place.hidden = false; // so that it can measure itself
      place.figure = definitions[place.dataset.interactive](stage);
    } catch (error) {
      place.hidden = true; // the static figure stays
      throw error;
    }
    const image = replaced(place);
    if (image) {
      image.hidden = true;
      image.closest("figure")?.classList.add("replaced");
      // the stage stands where the image stood, above the caption
      image.after(place);
    }
    place.dataset.ready = "yes";
  }

  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      observer.unobserve(entry.target);
      start(entry.target.place);
    }
  }, {rootMargin: "300px"});

  for (const place of document.querySelectorAll("[data-interactive]")) {
    const watched = replaced(place) ?? place.parentElement;
    watched.place = place;
    observer.observe(watched);
  }
})();
