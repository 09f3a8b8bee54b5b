// SPDX-License-Identifier: MIT
// The cells that are in view, the one that is chosen, its reasons; text from profiles is text, never markup.
"use strict";
{
  const one = (id) => document.getElementById(id);
  const root = document.documentElement, form = one("filter"), help = one("help"), map = one("map");
  const grid = one("grid"), heads = one("heads"), names = one("names"), space = grid.firstElementChild;
  const data = JSON.parse(one("data").textContent);
  const SIZE = 24, CLASS = { Y: "yes", "?": "if", N: "no" }, WORD = { Y: "yes", "?": "yes-if", N: "no" };
  const make = (tag, words, text = "") => {
    const made = Object.assign(document.createElement(tag), words);
    if (text) made.textContent = text;
    return made;
  };
  let rows = [], columns = [], at = [0, 0];  // numbers of what is shown; the chosen cell by its place in them

  const letter = (row, column) => data.letters[rows[row]][columns[column]];
  const label = (row, column) =>
    `${data.rows[rows[row]]} to ${data.columns[columns[column]]}: ${WORD[letter(row, column)]}`;

  // What is in view, anew; the rest of the grid is an empty space of the right size.
  const draw = () => {
    const top = grid.scrollTop, left = grid.scrollLeft;
    const first = Math.floor(top / SIZE), last = Math.min(rows.length, Math.ceil((top + grid.clientHeight) / SIZE));
    const from = Math.floor(left / SIZE), to = Math.min(columns.length, Math.ceil((left + grid.clientWidth) / SIZE));
    const lines = [], side = [], above = [];
    for (let row = first; row < last; row++) {
      const line = make("div", { role: "row", ariaRowIndex: row + 1 });
      for (let column = from; column < to; column++) {
        const found = letter(row, column);
        const cell = make("div", { role: "gridcell", id: `c${row}-${column}`, className: CLASS[found] }, found);
        Object.assign(cell, { ariaColIndex: column + 1, ariaLabel: label(row, column), title: label(row, column) });
        Object.assign(cell.style, { top: `${row * SIZE + 1}px`, left: `${column * SIZE + 1}px` });
        if (row === at[0] && column === at[1]) cell.classList.add("at");
        line.append(cell);
      }
      lines.push(line);
      side.push(named(data.rows[rows[row]], row === at[0], { top: `${row * SIZE - top}px` }));
    }
    for (let column = from; column < to; column++)
      above.push(named(data.columns[columns[column]], column === at[1], { left: `${column * SIZE - left}px` }));
    grid.replaceChildren(space, ...lines);
    names.replaceChildren(...side);
    heads.replaceChildren(...above);
    grid.setAttribute("aria-activedescendant", `c${at[0]}-${at[1]}`);
    if (!rows.length || !columns.length) grid.append(make("p", { className: "nothing" }, "No name has these letters."));
    frame();
  };
  const named = (name, chosen, place) => {
    const made = make("span", { title: name, className: chosen ? "at" : "" }, name);
    Object.assign(made.style, place);
    return made;
  };

  // The whole as a picture, a point a cell, with a frame round what is in view.
  const paintMap = () => {
    const probe = document.body.appendChild(make("i", {})), colours = {};
    for (const [each, name] of Object.entries(CLASS)) {
      probe.className = name;
      colours[each] = getComputedStyle(probe).backgroundColor.match(/\d+/g).map(Number);
    }
    probe.remove();
    const wide = Math.max(1, columns.length), high = Math.max(1, rows.length), by = Math.min(364 / wide, 290 / high, 12);
    Object.assign(map, { width: wide, height: high });
    Object.assign(map.style, { width: `${wide * by}px`, height: `${high * by}px` });
    const picture = new ImageData(wide, high);
    rows.forEach((_, row) => columns.forEach((_, column) =>
      picture.data.set([...colours[letter(row, column)], 255], 4 * (row * wide + column))));
    map.getContext("2d").putImageData(picture, 0, 0);
  };
  const frame = () => {
    const by = map.clientWidth / map.width / SIZE;
    const part = (from, size, most) => [from * by, Math.min(size, most * SIZE - from) * by];
    const [left, width] = part(grid.scrollLeft, grid.clientWidth, columns.length);
    const [top, height] = part(grid.scrollTop, grid.clientHeight, rows.length);
    for (const [name, value] of Object.entries({ left, top, width, height })) one("view").style[name] = `${value}px`;
  };

  const choose = (row, column) => {
    at = [Math.max(0, Math.min(rows.length - 1, row)), Math.max(0, Math.min(columns.length - 1, column))];
    const [top, left] = [at[0] * SIZE, at[1] * SIZE];
    if (top < grid.scrollTop) grid.scrollTop = top;
    if (top + SIZE > grid.scrollTop + grid.clientHeight) grid.scrollTop = top + SIZE - grid.clientHeight;
    if (left < grid.scrollLeft) grid.scrollLeft = left;
    if (left + SIZE > grid.scrollLeft + grid.clientWidth) grid.scrollLeft = left + SIZE - grid.clientWidth;
    draw();
  };
  const beyond = (by) => {
    const wide = columns.length, all = wide * rows.length;
    for (let place = at[0] * wide + at[1] + by; place >= 0 && place < all; place += by)
      if (letter(Math.floor(place / wide), place % wide) !== "Y") return choose(Math.floor(place / wide), place % wide);
  };

  // Reasons.
  const filled = (text, row, column, device) => {
    const [guest, host, uuid] = data.marks;
    const parts = { [`'${guest}'`]: data.quoted[row], [guest]: data.rows[row], [host]: data.columns[column],
      [uuid]: data.devices[row][device]?.[1] ?? uuid };
    for (const [mark, name] of Object.entries(parts)) text = text.split(mark).join(name);
    return text;
  };
  const open = () => {
    if (!rows.length || !columns.length) return;
    const [row, column] = [rows[at[0]], columns[at[1]]], before = data.letters[row].slice(0, column);
    const found = data.letters[row][column], shown = [];
    one("title").replaceChildren(make("span", { className: `key ${CLASS[found]}` }, found), ` ${label(...at)}`);
    if (found === "Y") shown.push(make("p", {}, "Nothing is against it."));
    else if (!data.told)
      shown.push(make("p", {}, "A page of so many cells has no reasons: `vbuskit gate check GUEST HOST` says them."));
    else for (const [number, device] of data.cases[data.of[row][before.replaceAll("Y", "").length]]) {
      const [rule, verdict, side, subject, reason, remedies] = data.findings[number];
      const text = (words) => filled(words, row, column, device);
      shown.push(make("h3", {}, text(subject)), make("p", {}, text(reason)));
      const where = [rule, verdict === "if" ? "yes-if" : verdict, side, data.devices[row][device]?.[0]];
      shown.push(make("p", { className: "where" }, where.filter(Boolean).join(" · ")));
      const list = make("ul", {});
      list.append(...remedies.map((each) => make("li", {}, text(each))));
      shown.push(list);
    }
    one("reasons").replaceChildren(...shown);
    one("why").scrollTop = 0;
    one("title").focus({ preventScroll: true });
  };

  const show = () => {
    const fits = (all, words) => all.map((_, number) => number)
      .filter((number) => words.toLowerCase().split(/\s+/).every((part) => all[number].toLowerCase().includes(part)));
    [rows, columns] = [fits(data.rows, form.from.value), fits(data.columns, form.to.value)];
    Object.assign(space.style, { width: `${columns.length * SIZE}px`, height: `${rows.length * SIZE}px` });
    grid.setAttribute("aria-rowcount", rows.length);
    grid.setAttribute("aria-colcount", columns.length);
    one("count").value = `${rows.length} by ${columns.length} of ${data.rows.length} by ${data.columns.length}`;
    grid.scrollTo(0, 0);
    paintMap();
    choose(0, 0);
  };
  const themes = ["auto", "light", "dark"];
  const paint = (theme) => {
    root.dataset.theme = theme;
    one("theme").textContent = `Colours: ${theme}`;
    try { localStorage.setItem("vbuskit-theme", theme); } catch { /* a page in a sandbox forgets it */ }
  };
  const actions = {
    theme: () => { paint(themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length]); paintMap(); },
    ask: () => help.showModal(),
    clear: () => { form.reset(); show(); grid.focus(); },
  };
  const moves = {
    ArrowLeft: () => choose(at[0], at[1] - 1), ArrowRight: () => choose(at[0], at[1] + 1),
    ArrowUp: () => choose(at[0] - 1, at[1]), ArrowDown: () => choose(at[0] + 1, at[1]),
    Home: () => choose(at[0], 0), End: () => choose(at[0], columns.length - 1),
    PageUp: () => choose(at[0] - 10, at[1]), PageDown: () => choose(at[0] + 10, at[1]),
    Enter: open, " ": open,
  };
  const keys = {
    "/": () => form.from.focus(), "?": actions.ask, t: actions.theme, x: actions.clear,
    n: () => { grid.focus(); beyond(1); }, p: () => { grid.focus(); beyond(-1); },
  };
  addEventListener("keydown", (event) => {
    const from = event.target;
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || help.open) return;
    if (from.matches("input")) {
      if (event.key === "Escape") { from.value = ""; show(); grid.focus(); }
      else if (event.key === "Enter") grid.focus();
      else return;
    } else if (from === grid && moves[event.key]) moves[event.key]();
    else if (event.key === "Escape" && one("why").contains(from)) grid.focus();
    else if (keys[event.key] && one("letters").checked) keys[event.key]();
    else return;
    event.preventDefault();
  });
  grid.addEventListener("click", (event) => {
    const cell = event.target.closest("[role=gridcell]");
    if (cell) { choose(...cell.id.slice(1).split("-").map(Number)); open(); }
  });
  map.addEventListener("click", (event) => {
    const by = map.width / map.clientWidth;
    choose(Math.floor(event.offsetY * by), Math.floor(event.offsetX * by));
    grid.focus();
  });
  addEventListener("click", (event) => actions[event.target.closest("button")?.id]?.());
  grid.addEventListener("scroll", draw);
  addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { paintMap(); });
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());

  let theme = "auto";
  try { theme = localStorage.getItem("vbuskit-theme") ?? theme; } catch { /* the same */ }
  paint(themes.includes(theme) ? theme : "auto");
  root.classList.add("js");
  show();
  grid.focus({ preventScroll: true });
}
