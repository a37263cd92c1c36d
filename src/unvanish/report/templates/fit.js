// Fits figures to a page: its colours, its width; and writes their data as CSV.
// The report's page and the live page share this.
const unvanishFit = (function () {
  "use strict";
  const NARROW = 640;
  const PER_TICK = 26; // pixels that a slanted label takes along its axis
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const BRIGHTER = { "#0072B2": "#3D9BE0", "#D55E00": "#EE7A22" }; // lines on a dark page

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

  // A figure with a menu as it is at one of its entries, without the menu.
  function viewed(figure, number) {
    const menu = (figure.layout.updatemenus || [])[0];
    if (!menu) return figure;
    const [{ visible }, changes] = menu.buttons[number ?? menu.active ?? 0].args;
    const data = figure.data.filter((_, index) => !visible || visible[index])
      .map((trace) => Object.assign({}, trace, { visible: true }));
    const layout = structuredClone(figure.layout);
    delete layout.updatemenus;
    for (const [path, value] of Object.entries(changes || {})) {
      const keys = path.split(".");
      const last = keys.pop();
      keys.reduce((part, key) => (part[key] ??= {}), layout)[last] = structuredClone(value);
    }
    return { data, layout };
  }

  function layoutFor(figure, width, printing) {
    const layout = structuredClone(figure.layout);
    const [ink, grid, surface] = printing
      ? ["#000000", "rgba(0,0,0,0.15)", "#ffffff"] // the page's own print colours come too late
      : ["--fg", "--grid", "--surface"].map(variable);
    layout.width = width;
    layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: variable("--muted"), activecolor: ink };
    layout.font.color = ink;
    layout.hoverlabel = Object.assign({}, layout.hoverlabel, {
      bgcolor: surface, bordercolor: variable("--line"), font: { color: ink, family: layout.font.family },
    });
    for (const menu of layout.updatemenus || []) {
      Object.assign(menu, { bgcolor: surface, bordercolor: grid, font: { color: ink } });
    }
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

  function dataFor(figure, width, printing) {
    const data = structuredClone(figure.data);
    for (const trace of data) {
      // On a phone the title of a scale would take the room of the picture.
      if (trace.colorbar && width < NARROW) trace.colorbar.title = { text: "" };
    }
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

  function config(name, width) {
    return {
      displaylogo: false,
      displayModeBar: width < NARROW ? false : "hover",
      modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
      toImageButtonOptions: { format: "svg", filename: name },
    };
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
  function csv(figure) {
    const lines = [["series", "x", "y", "value", "text"].join(",")];
    const push = (...cells) => lines.push(cells.map(cell).join(","));
    for (const trace of figure.data) {
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

  function download(name, figure) {
    const blob = new Blob(["\ufeff", csv(figure)], { type: "text/csv" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name + ".csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  return { dark, viewed, layoutFor, dataFor, keepApart, config, download };
})();
