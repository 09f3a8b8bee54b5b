// SPDX-License-Identifier: MIT
// Filter, comparison, keys and colours; without it the page has the same content, and more to look through.
"use strict";
{
  const one = (id) => document.getElementById(id);
  const all = (what, where = document) => [...where.querySelectorAll(what)];
  const root = document.documentElement, form = one("filter"), help = one("help");
  const fields = [...form.elements].filter((each) => each.name);
  const past = JSON.parse(one("past").textContent), against = all(".against");
  const spots = new Map(all(".matrix a").map((spot) => [spot.hash, spot]));
  const rows = all(".cells > li").map((row) => ({
    row, ...row.dataset, spot: spots.get(`#${row.id}`), details: row.firstElementChild,
    head: row.querySelector("summary"), note: row.querySelector(".change"), change: "", times: 0,
    text: `${row.dataset.id} ${row.querySelector("summary").textContent}`.toLowerCase(),
  }));
  const numbered = new Map(rows.map((each) => [Number(each.row.id.slice(1)), each]));
  const heads = () => rows.filter((each) => !each.row.hidden).map((each) => each.head);
  let at = "", chosen = null;

  // What differs from the run that is chosen.
  const words = { red: "became red", green: "became green", skipped: "no longer tried", new: "new" };
  const compare = () => {
    const wanted = form.against?.value ?? "";
    if (wanted === chosen) return;
    chosen = wanted;
    for (const each of rows) Object.assign(each, { change: "", times: 0 });
    against.forEach((each, number) => { each.hidden = String(number) !== chosen; each.open = !each.hidden; });
    if (chosen === "") return;
    for (const kind of Object.keys(words)) for (const number of past[chosen][kind]) numbered.get(number).change = kind;
    for (const [number, times] of past[chosen].slower) Object.assign(numbered.get(number), { change: "slower", times });
  };
  const isChanged = (each, wanted) => {
    const [kind, times] = wanted.split("-");
    return !wanted || each.change === kind && each.times >= Number(times ?? 0) || wanted === "any" && each.change;
  };

  const show = () => {
    compare();
    const value = (name) => form[name]?.value ?? "";
    const parts = value("q").toLowerCase().split(/\s+/);
    const same = (each, name) => !value(name) || each[name] === value(name);
    let shown = 0;
    for (const each of rows) {
      const fits = ["outcome", "guest", "blame"].every((name) => same(each, name)) &&
        isChanged(each, value("change")) && parts.every((part) => each.text.includes(part));
      each.row.hidden = !fits;
      each.spot?.classList.toggle("off", !fits);
      each.spot?.classList.toggle("changed", each.change !== "");
      each.note.textContent = each.change === "slower" ? `${each.times.toFixed(1)} times as long` : words[each.change] ?? "";
      shown += fits;
    }
    for (const lane of all(".lane")) lane.hidden = !lane.querySelector(".cells > li:not([hidden])");
    for (const lane of all(".matrix tbody tr")) lane.hidden = !lane.querySelector("a:not(.off)");
    one("count").value = `${shown} of ${rows.length} cells`;
  };

  // All of it is in the fragment, so that a link to the page is a link to what is seen.
  const keep = () => {
    const kept = new URLSearchParams(fields.filter((each) => each.value && each.dataset.usual !== each.value)
      .map((each) => [each.name, each.value]));
    if (at) kept.set("cell", at);
    history.replaceState(null, "", `#${kept}`);
  };
  const restore = () => {
    const kept = new URLSearchParams(location.hash.slice(1));
    for (const each of fields) {
      each.value = kept.get(each.name) ?? each.dataset.usual ?? "";
      if (each.selectedIndex === -1) each.value = "";
    }
    at = "";
    show();
    go(rows.find((each) => each.id === kept.get("cell") || `#${each.row.id}` === location.hash), false);
  };
  const go = (each, kept = true) => {
    if (!each) return;
    at = each.id;
    each.row.hidden = each.row.closest(".lane").hidden = false;
    each.details.open = true;
    each.head.focus({ preventScroll: true });
    each.row.scrollIntoView({ block: "start" });
    if (kept) keep();
  };

  const copy = (button) => {
    const text = document.createRange();
    text.selectNodeContents(button.previousElementSibling);
    getSelection().removeAllRanges();
    getSelection().addRange(text);
    button.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
  };
  const themes = ["auto", "light", "dark"];
  const paint = (theme) => {
    root.dataset.theme = theme;
    one("theme").textContent = `Colours: ${theme}`;
    try { localStorage.setItem("vbuskit-theme", theme); } catch { /* a page in a sandbox forgets it */ }
  };
  const actions = {
    theme: () => paint(themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length]),
    ask: () => help.showModal(),
    clear: () => { for (const each of fields) each.value = each.dataset.usual ?? ""; at = ""; show(); keep(); },
  };

  // Keys. `step` walks along what is shown; nothing wraps round.
  const step = (list, by) => {
    const here = list.indexOf(document.activeElement);
    const next = here === -1 ? (by > 0 ? 0 : list.length - 1) : here + by;
    list[next]?.focus();
    list[next]?.scrollIntoView({ block: "nearest" });
  };
  const reds = () => heads().filter((head) => head.parentElement.matches(".red, .interrupted"));
  const inMatrix = (across, down) => {
    const cell = document.activeElement.closest("td");
    const beside = (from) => down
      ? (down > 0 ? from.parentElement.nextElementSibling : from.parentElement.previousElementSibling)
        ?.cells[cell.cellIndex]
      : across > 0 ? from.nextElementSibling : from.previousElementSibling;
    let next = beside(cell);
    while (next && !next.querySelector("a:not(.off)")) next = beside(next);
    next?.firstElementChild.focus();
  };
  const keys = {
    j: () => step(heads(), 1), k: () => step(heads(), -1), n: () => step(reds(), 1), p: () => step(reds(), -1),
    m: () => document.querySelector(".matrix a:not(.off)")?.focus(), "/": () => form.q.focus(),
    "?": actions.ask, t: actions.theme, x: actions.clear,
  };
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  addEventListener("keydown", (event) => {
    const from = event.target;
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    if (event.key === "Escape" && from === form.q) return void (form.q.value = "", show(), keep(), heads()[0]?.focus());
    if (from.matches("input, select")) return;
    const arrow = arrows[event.key];
    if (arrow && from.closest(".matrix td")) inMatrix(...arrow);
    else if (arrow?.[1] && from.matches("summary")) step(heads(), arrow[1]);
    else if (keys[event.key] && one("letters").checked) keys[event.key]();
    else return;
    event.preventDefault();
  });
  addEventListener("click", (event) => {
    const spot = event.target.closest("a[href^='#c']"), button = event.target.closest("button");
    if (spot) { event.preventDefault(); go(rows.find((each) => `#${each.row.id}` === spot.hash)); }
    if (button?.className === "copy") copy(button);
    actions[button?.id]?.();
  });
  form.addEventListener("input", () => { show(); keep(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", restore);

  let theme = "auto";
  try { theme = localStorage.getItem("vbuskit-theme") ?? theme; } catch { /* the same */ }
  paint(themes.includes(theme) ? theme : "auto");
  root.classList.add("js");
  restore();
}
