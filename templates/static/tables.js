/* Sorting, filtering and the choice of columns of the wide tables; the order and the filter stand in the address. */
"use strict";

(() => {
  const chosen = new CSSStyleSheet(); // one rule per hidden column; it outlives every new state of a table
  document.adoptedStyleSheets.push(chosen);

  const sheets = () => document.querySelectorAll("table.sheet");
  const address = () => new URLSearchParams(location.search);
  const toolsOf = (sheet) => document.querySelector(`[data-for="${sheet.id}"]`);

  function remember(name, value) {
    const query = address();
    if (value) query.set(name, value);
    else query.delete(name);
    const text = query.toString();
    history.replaceState(history.state, "", `${location.pathname}${text ? `?${text}` : ""}${location.hash}`);
  }

  function valueOf(row, column) {
    const cell = row.querySelector(`.c-${column}`);
    const text = cell.textContent.trim();
    if (!cell.classList.contains("k-num") && !cell.classList.contains("k-bar")) return text;
    const number = Number.parseFloat(text.replace("\u2212", "-").replaceAll(",", ""));
    return Number.isNaN(number) ? null : number;
  }

  function compare(one, other) {
    if (one === null || other === null) return one === other ? 0 : one === null ? 1 : -1; // unknown figures last
    return typeof one === "number" ? one - other : one.localeCompare(other);
  }

  function sort(sheet) {
    const asked = address().get(`${sheet.dataset.sheet}-sort`) || "";
    const column = asked.replace(/^-/, "");
    const falling = asked.startsWith("-");
    for (const head of sheet.tHead.rows[0].cells) {
      const button = head.querySelector("[data-sort]");
      if (button?.dataset.sort === column) head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    if (!column || !sheet.tHead.querySelector(`[data-sort="${CSS.escape(column)}"]`)) return;
    const body = sheet.tBodies[0];
    const rows = [...body.rows].map((row) => ({ row, value: valueOf(row, column) }));
    rows.sort((a, b) => (falling && a.value !== null && b.value !== null ? compare(b.value, a.value) : compare(a.value, b.value)));
    settle(body, rows.map(({ row }) => row));
  }

  /* Puts rows into order and moves as few as can be; one with the focus keeps it, where the browser knows how. */
  function settle(body, ordered) {
    const place = new Map(ordered.map((row, index) => [row, index]));
    const staying = longestInOrder([...body.rows], (row) => place.get(row));
    let next = null;
    for (const row of ordered.toReversed()) {
      if (!staying.has(row)) body.moveBefore ? body.moveBefore(row, next) : body.insertBefore(row, next);
      next = row;
    }
  }

  /* The most items that are in order already: `ends` holds the last one of the best sequence of each length. */
  function longestInOrder(items, placeOf) {
    const ends = [];
    const before = new Map();
    for (const item of items) {
      const isNext = !ends.length || placeOf(ends.at(-1)) < placeOf(item);
      const at = isNext ? ends.length : ends.findIndex((end) => placeOf(end) > placeOf(item));
      before.set(item, ends[at - 1]);
      ends[at] = item;
    }
    const found = new Set();
    for (let item = ends.at(-1); item; item = before.get(item)) found.add(item);
    return found;
  }

  function filter(sheet) {
    const wanted = (address().get(`${sheet.dataset.sheet}-filter`) || "").trim().toLowerCase();
    let matches = 0;
    for (const row of sheet.tBodies[0].rows) {
      row.hidden = wanted !== "" && !row.textContent.toLowerCase().includes(wanted);
      matches += !row.hidden;
    }
    const told = toolsOf(sheet)?.querySelector(".matches");
    if (told) told.textContent = wanted ? `${matches} of ${sheet.tBodies[0].rows.length}` : "";
  }

  function hidden(kind) {
    return new Set(JSON.parse(localStorage.getItem(`hidden-${kind}`) || "[]"));
  }

  function showColumns() {
    const rules = [];
    for (const sheet of sheets()) {
      const off = hidden(sheet.dataset.sheet);
      for (const column of off) rules.push(`#${CSS.escape(sheet.id)} .c-${CSS.escape(column)} { display: none; }`);
      for (const box of toolsOf(sheet)?.querySelectorAll("[data-column]") ?? []) box.checked = !off.has(box.dataset.column);
    }
    chosen.replaceSync(rules.join("\n"));
  }

  function onSort(button) {
    const sheet = button.closest("table");
    const name = `${sheet.dataset.sheet}-sort`;
    const now = address().get(name);
    const column = button.dataset.sort;
    const first = button.closest("th").classList.contains("k-num") ? `-${column}` : column; // the largest first
    const second = first === column ? `-${column}` : column;
    remember(name, now === first ? second : first);
    sort(sheet);
  }

  function onChange(event) {
    const tools = event.target.closest("[data-for]");
    if (!tools) return;
    const sheet = document.getElementById(tools.dataset.for);
    if (event.target.matches("[data-column]")) {
      const off = [...tools.querySelectorAll("[data-column]:not(:checked)")].map((box) => box.dataset.column);
      localStorage.setItem(`hidden-${sheet.dataset.sheet}`, JSON.stringify(off));
      showColumns();
    } else if (event.target.type === "search") {
      remember(`${sheet.dataset.sheet}-filter`, event.target.value);
      filter(sheet);
    }
  }

  function onKey(event) {
    const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const field = document.querySelector('.sheet-tools input[type="search"]');
      if (!field) return;
      event.preventDefault();
      field.focus();
      field.select();
    } else if (event.key === "Escape" && typing?.type === "search") {
      typing.value = "";
      typing.dispatchEvent(new Event("input", { bubbles: true }));
    }
  }

  function arrange() {
    for (const sheet of sheets()) {
      sort(sheet);
      filter(sheet);
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("table.sheet [data-sort]");
    if (button) onSort(button);
  });
  document.addEventListener("input", onChange);
  document.addEventListener("keydown", onKey);
  document.addEventListener("htmx:after:swap", arrange);
  document.addEventListener("DOMContentLoaded", () => {
    for (const sheet of sheets()) {
      const field = toolsOf(sheet)?.querySelector('input[type="search"]');
      if (field) field.value = address().get(`${sheet.dataset.sheet}-filter`) || "";
    }
    showColumns();
    arrange();
  });
})();
