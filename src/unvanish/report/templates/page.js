// Draws the figures of the report, in the colours of the page, at the width of the window.
(function () {
  "use strict";
  const plots = Array.from(document.querySelectorAll(".plot"));
  const figures = new Map();
  const chosen = new Map(); // by id of a plot: the number of its view
  let printing = false;

  function shown(plot) {
    return unvanishFit.viewed(figures.get(plot.id), chosen.get(plot.id));
  }

  // A figure with several views comes with a menu of Plotly's, which knows neither the dark nor a
  // phone. The page has a <select> instead, and remembers what was chosen when it draws again.
  function addMenu(plot) {
    const menu = (figures.get(plot.id).layout.updatemenus || [])[0];
    if (!menu) return;
    const select = document.createElement("select");
    select.className = "view";
    select.setAttribute("aria-label", plot.getAttribute("aria-label"));
    menu.buttons.forEach((button, index) => select.add(new Option(button.label, index)));
    select.value = String(menu.active ?? 0);
    select.addEventListener("change", () => {
      chosen.set(plot.id, Number(select.value));
      draw(plot);
    });
    plot.before(select);
  }

  function draw(plot) {
    const figure = shown(plot);
    const width = printing ? 680 : plot.clientWidth;
    const layout = unvanishFit.layoutFor(figure, width, printing);
    layout.height = plot.clientHeight;
    const data = unvanishFit.dataFor(figure, width, printing);
    if (plot.dataset.picture === "network") unvanishFit.keepApart(data, layout.xaxis.range, width);
    return Plotly.react(plot, data, layout, unvanishFit.config(plot.id, width));
  }

  function drawAll() {
    return Promise.all(plots.map(draw));
  }

  // One figure a frame: the first is seen while the others are still being drawn.
  function drawInTurn(index) {
    if (index < plots.length) {
      draw(plots[index]).then(() => requestAnimationFrame(() => drawInTurn(index + 1)));
    } else {
      document.documentElement.dataset.drawn = "true";
    }
  }

  for (const button of document.querySelectorAll("button.data")) {
    button.addEventListener("click", () => {
      unvanishFit.download(button.dataset.of, shown(document.getElementById(button.dataset.of)));
    });
  }

  for (const plot of plots) {
    figures.set(plot.id, JSON.parse(document.getElementById(plot.id + "-data").textContent));
    addMenu(plot);
  }
  let last = document.body.clientWidth;
  let waiting = 0;
  window.addEventListener("resize", () => {
    if (document.body.clientWidth === last) return;
    last = document.body.clientWidth;
    clearTimeout(waiting);
    waiting = setTimeout(drawAll, 120);
  });
  unvanishFit.dark.addEventListener("change", drawAll);
  window.addEventListener("beforeprint", () => { printing = true; drawAll(); });
  window.addEventListener("afterprint", () => { printing = false; drawAll(); });
  drawInTurn(0);
})();
