// What the live page does in the browser: fits figures, keeps the address, says when the server
// is gone. Everything else is computed by the server.
window.dash_clientside = window.dash_clientside || {};
window.dash_clientside.unvanish = (function () {
  "use strict";
  const figures = new Map(); // name -> figure, as the server sent it
  const stale = new Set(); // names of those that have changed out of sight
  const again = { noUpdate: () => window.dash_clientside.no_update };

  // Whether a place is in sight or nearly so: figures elsewhere are drawn when they come near.
  function near(place) {
    if (!place || printing) return true;
    const box = place.getBoundingClientRect();
    return box.bottom > -window.innerHeight && box.top < 1.5 * window.innerHeight;
  }

  // A figure in the colours and at the width of the page.
  function fit(figure, id) {
    if (!figure) return [again.noUpdate(), again.noUpdate()];
    const place = document.getElementById(id.name + "-plot");
    const width = place ? place.clientWidth : 640;
    figures.set(id.name, figure);
    if (width === 0 || !near(place)) {
      stale.add(id.name);
      if (width === 0) setTimeout(look, 60); // perhaps it is about to be shown
      return [again.noUpdate(), again.noUpdate()];
    }
    stale.delete(id.name);
    const layout = unvanishFit.layoutFor(figure, width, false);
    // The same figure with other numbers: what was zoomed stays zoomed.
    layout.uirevision = id.name;
    if (place && place.clientHeight) layout.height = place.clientHeight;
    return [{ data: unvanishFit.dataFor(figure, width, false), layout }, unvanishFit.config(id.name, width)];
  }

  // A slider and its field hold the same number; whichever was moved tells the other.
  function pair(field, slider) {
    const moved = window.dash_clientside.callback_context.triggered_id || "";
    if (moved.endsWith("-slider")) return [Number(slider), again.noUpdate()];
    return [again.noUpdate(), field === null || field === undefined ? again.noUpdate() : field];
  }

  // The address says what the controls say, without a new entry in the history.
  function keepAddress(query) {
    if (typeof query === "string" && window.location.search !== query) {
      window.history.replaceState(window.history.state, "", window.location.pathname + query);
      const language = document.getElementById("language");
      if (language) language.href = language.pathname + query;
    }
    return again.noUpdate();
  }

  // The window is called what the view is.
  function entitle() {
    setTimeout(() => {
      const heading = document.querySelector("main h1");
      if (heading) document.title = heading.textContent.slice(0, 90) + " · Unvanish";
    }, 0);
    return again.noUpdate();
  }

  // Which neuron is looked at by itself, and what its sliders say.
  function pick(neuron, own, weight, bias) {
    const pair = (own || {})[neuron] || [weight, bias];
    return [pair[0], pair[1], Number(neuron) === 0];
  }

  // A neuron with a weight and a bias of its own.
  function ownPair(weight, bias, _clicks, neuron, own, allWeight, allBias) {
    const known = own || {};
    if (Number(neuron) === 0) return [again.noUpdate()];
    if (window.dash_clientside.callback_context.triggered_id === "chain-own-reset") {
      const rest = Object.assign({}, known);
      delete rest[neuron];
      return [rest];
    }
    const now = known[neuron] || [allWeight, allBias];
    if (weight === null || bias === null || (now[0] === weight && now[1] === bias)) {
      return [again.noUpdate()];
    }
    return [Object.assign({}, known, { [neuron]: [weight, bias] })];
  }

  // The training goes on: by one step, or as long as it plays.
  function advance(_ticks, _plays, _ones, step, paused, words) {
    const by = window.dash_clientside.callback_context.triggered_id;
    const now = Number(step || 0);
    if (by === "chain-one") return [Math.min(500, now + 1), true, words[0]];
    if (by === "chain-play") return [now >= 500 ? 0 : again.noUpdate(), !paused, words[paused ? 1 : 0]];
    const next = Math.min(500, now + (now < 10 ? 1 : 5));
    return [next, next >= 500, words[next >= 500 ? 0 : 1]];
  }

  document.addEventListener("change", (event) => {
    const name = event.target.dataset && event.target.dataset.choice;
    if (name) window.dash_clientside.set_props(name, { data: event.target.value });
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest("button.data");
    if (button && figures.has(button.dataset.of)) {
      unvanishFit.download(button.dataset.of, figures.get(button.dataset.of));
    }
  });

  let last = 0;
  let waiting = 0;
  let looking = false;
  let printing = false;
  function refit(names) {
    for (const name of [...names]) {
      const place = document.getElementById(name + "-plot");
      if (place && place.clientWidth && near(place)) {
        const data = Object.assign({}, figures.get(name));
        window.dash_clientside.set_props({ kind: "picture", name }, { data });
      }
    }
  }
  function look() {
    if (looking || !stale.size) return;
    looking = true;
    requestAnimationFrame(() => { looking = false; refit(stale); });
  }
  for (const happening of ["scroll", "toggle"]) {
    document.addEventListener(happening, look, { capture: true, passive: true });
  }
  window.addEventListener("beforeprint", () => { printing = true; refit(figures.keys()); });
  window.addEventListener("afterprint", () => { printing = false; });
  window.addEventListener("resize", () => {
    look();
    if (document.body.clientWidth === last) return;
    last = document.body.clientWidth;
    clearTimeout(waiting);
    waiting = setTimeout(refitAll, 120);
  });
  function refitAll() {
    for (const name of figures.keys()) stale.add(name);
    refit(figures.keys());
  }
  unvanishFit.dark.addEventListener("change", refitAll);

  // Asks every second whether the server is there. The page stays as it is while it is not.
  let lost = false;
  async function ask() {
    const banner = document.getElementById("connection");
    let answer = null;
    try {
      const response = await fetch("/alive", { cache: "no-store" });
      answer = response.ok ? await response.text() : null;
    } catch (error) {
      answer = null;
    }
    if (answer === null) {
      lost = true;
      banner.textContent = banner.dataset.lost;
      banner.className = "lost";
    } else if (lost) {
      lost = false;
      banner.textContent = banner.dataset.back;
      banner.className = "back";
      banner.dataset.instance = answer;
      window.dash_clientside.set_props("revived", { data: Date.now() });
      setTimeout(() => { if (!lost) { banner.textContent = ""; banner.className = ""; } }, 4000);
    }
    setTimeout(ask, 1000);
  }
  document.addEventListener("DOMContentLoaded", () => {
    last = document.body.clientWidth;
    setTimeout(ask, 1000);
  });

  return { fit, pair, keep_address: keepAddress, entitle, pick, own: ownPair, advance };
})();
