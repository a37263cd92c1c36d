// Draws the figures of the report, in the colours of the page, at the width of the window.
(function () {
  "use strict";
  const NARROW = 640;
  const PER_TICK = 26; // pixels that a slanted label takes along its axis
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const plots = Array.from(document.querySelectorAll(".plot"));
  const figures = new Map();
  const chosen = new Map(); // by id of a plot: the number of its view
  const BRIGHTER = { "#0072B2": "#3D9BE0", "#D55E00": "#EE7A22" }; // lines on a dark page
  let printing = false;

  function variable(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function axes(layout) {
    return Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));
  }

  // Shows every n-th label, so that labels never run into each other.
  function thinned(axis, width) {
    const room = Math.max(2, Math.floor((width - 90) / PER_TICK));
    const stride = Math.ceil(axis.tickvals.length / room);
    const keep = (list) => list.filter((_, index) => index % stride === 0);
    return { tickvals: keep(axis.tickvals), ticktext: keep(axis.ticktext) };
  }

  // A figure with several views comes with a menu of Plotly's, which knows neither the dark nor a
  // phone. The page has a <select> instead, and remembers what was chosen when it draws again.
  function viewOf(plot) {
    const menu = (figures.get(plot.id).layout.updatemenus || [])[0];
    return menu ? menu.buttons[chosen.get(plot.id) ?? menu.active ?? 0].args : [{}, {}];
  }

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

  function layoutFor(plot, width) {
    const layout = structuredClone(figures.get(plot.id).layout);
    delete layout.updatemenus;
    for (const [path, value] of Object.entries(viewOf(plot)[1])) {
      const keys = path.split(".");
      const last = keys.pop();
      keys.reduce((part, key) => (part[key] ??= {}), layout)[last] = structuredClone(value);
    }
    const [ink, grid, surface] = printing
      ? ["#000000", "rgba(0,0,0,0.15)", "#ffffff"] // the page's own print colours come too late
      : ["--fg", "--grid", "--surface"].map(variable);
    layout.width = width;
    layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: variable("--muted"), activecolor: ink };
    layout.font.color = ink;
    layout.hoverlabel = Object.assign({}, layout.hoverlabel, {
      bgcolor: surface, bordercolor: variable("--line"), font: { color: ink, family: layout.font.family },
    });
    if (width < NARROW) {
      layout.margin = Object.assign({}, layout.margin, { l: 44, r: 8 });
      layout.font.size = 11;
      layout.dragmode = false; // leave one finger to scrolling
    }
    for (const name of axes(layout)) {
      const axis = layout[name];
      Object.assign(axis, { gridcolor: grid, zerolinecolor: grid, linecolor: grid });
      if (axis.tickmode === "array") {
        Object.assign(axis, thinned(axis, width), { tickangle: -45 });
      }
      if (width < NARROW && axis.title && name.startsWith("x")) {
        axis.title.text = axis.title.text.replace(/([:;：；]) ?/g, "$1<br>");
      }
    }
    return layout;
  }

  // The traces of the chosen view, in the colours of the page.
  function dataFor(plot) {
    const visible = viewOf(plot)[0].visible;
    const data = structuredClone(figures.get(plot.id).data)
      .filter((_, index) => !visible || visible[index]);
    for (const trace of data) delete trace.visible;
    if (dark.matches && !printing) {
      for (const trace of data) {
        for (const part of [trace.line, trace.marker, trace.marker && trace.marker.line]) {
          if (part && BRIGHTER[part.color]) part.color = BRIGHTER[part.color];
        }
      }
    }
    return data;
  }

  // Squares of neighbouring ranks must not touch where the page is narrow.
  function keepApart(data, range, width) {
    const room = Math.max(3, 0.8 * (width - 150) / (range[1] - range[0]));
    for (const trace of data) {
      if (trace.marker && trace.marker.size) trace.marker.size = Math.min(trace.marker.size, room);
    }
  }

  function draw(plot) {
    const width = printing ? 680 : plot.clientWidth;
    const config = {
      displaylogo: false,
      displayModeBar: width < NARROW ? false : "hover",
      modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
      toImageButtonOptions: { format: "svg", filename: plot.id },
    };
    const layout = layoutFor(plot, width);
    layout.height = plot.clientHeight;
    const data = dataFor(plot);
    if (plot.dataset.picture === "network") keepApart(data, layout.xaxis.range, width);
    return Plotly.react(plot, data, layout, config);
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

  // A cell of a CSV file. A spreadsheet runs a text that begins like a formula, so it gets a quote.
  function cell(value) {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return String(value);
    const text = String(value).replace(/<[^>]*>/g, " ").replace(/&lt;/g, "<").replace(/&gt;/g, ">")
      .replace(/&amp;/g, "&");
    return '"' + (/^[=+\-@]/.test(text) ? "'" : "") + text.replace(/"/g, '""') + '"';
  }

  // All points of a figure, a line each: the numbers that are drawn, and what hovering says. Lines
  // that nothing is said of only join others.
  function csv(plot) {
    const lines = [["series", "x", "y", "value", "text"].join(",")];
    const push = (...cells) => lines.push(cells.map(cell).join(","));
    for (const trace of dataFor(plot)) {
      if (trace.hoverinfo === "skip") continue;
      const name = trace.name || "";
      const pick = (list, ...at) => at.reduce((found, i) => (found ? found[i] : null), list);
      if (trace.z) {
        trace.z.forEach((row, j) => row.forEach((value, i) =>
          push(name, pick(trace.x, i) ?? i, pick(trace.y, j) ?? j, value, pick(trace.hovertext, j, i))));
      } else {
        const count = Math.max((trace.x || []).length, (trace.y || []).length);
        for (let i = 0; i < count; i += 1) {
          const text = Array.isArray(trace.hovertext) ? trace.hovertext[i] : trace.hovertext;
          push(name, pick(trace.x, i), pick(trace.y, i), null, text);
        }
      }
    }
    return lines.join("\r\n") + "\r\n";
  }

  for (const button of document.querySelectorAll("button.data")) {
    button.addEventListener("click", () => {
      const blob = new Blob(["\ufeff", csv(document.getElementById(button.dataset.of))], { type: "text/csv" });
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = button.dataset.of + ".csv";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
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
  dark.addEventListener("change", drawAll);
  window.addEventListener("beforeprint", () => { printing = true; drawAll(); });
  window.addEventListener("afterprint", () => { printing = false; drawAll(); });
  drawInTurn(0);
})();
