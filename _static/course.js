// A formula wider than the page scrolls in its box: let the keyboard reach those boxes, and no others.
(() => {
  const update = () => {
    for (const box of document.querySelectorAll(".math-scroll")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  addEventListener("load", update); // when the fonts are there
  addEventListener("resize", update);
})();
