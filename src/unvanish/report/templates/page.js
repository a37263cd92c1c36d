// Draws the figures of the report, in the colours of the page, at the width of the window.
(function () {
  "use strict";
  const plots = Array.from(document.querySelectorAll(".plot"));
  const figures = new Map();
  let printing = false;

  function draw(plot) {
    const figure = figures.get(plot.id);
    const width = printing ? 680 : plot.clientWidth;
    const layout = unvanishFit.layoutFor(figure, width, printing);
    layout.height = plot.clientHeight;
    const data = unvanishFit.dataFor(figure, width, printing);
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
      unvanishFit.download(button.dataset.of, figures.get(button.dataset.of));
    });
  }

  for (const plot of plots) {
    figures.set(plot.id, JSON.parse(document.getElementById(plot.id + "-data").textContent));
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
