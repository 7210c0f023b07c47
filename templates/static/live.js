/* Puts what prices changed into the cells that show it: text, tone and bar as the server wrote them; computes no figure. */
"use strict";

(() => {
  const FLASH_MS = 600;
  const FLASH_PAUSE_MS = 1000; // per cell
  const FLASHING = new Set(["market", "pl", "pl_lot"]);
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const flashedAt = new WeakMap();
  const inSight = new WeakSet(); // rows: the others are spared the animation
  const watched = new Set(); // rows
  const sight = new IntersectionObserver((rows) => {
    for (const row of rows) {
      if (row.isIntersecting) inSight.add(row.target);
      else inSight.delete(row.target);
    }
  });

  function flash(cell, tone) {
    const now = performance.now();
    if (calm.matches || !inSight.has(cell.parentElement) || now - (flashedAt.get(cell) ?? -FLASH_PAUSE_MS) < FLASH_PAUSE_MS) return;
    flashedAt.set(cell, now);
    const color = tone === "loss" ? "var(--flash-loss)" : "var(--flash)";
    cell.animate([{ backgroundColor: color }, { backgroundColor: "transparent" }], { duration: FLASH_MS, easing: "ease-out" });
  }

  function write(cell, column, [text, tone = "", x, width]) {
    const bar = cell.querySelector("rect");
    const time = cell.querySelector("time");
    if (time) {
      time.dateTime = text; // the page counts its age
      return;
    }
    if (bar) {
      bar.setAttribute("x", x || 0);
      bar.setAttribute("width", width || 0);
      cell.querySelector("span").textContent = text;
    } else {
      cell.textContent = text;
    }
    if (tone) cell.dataset.tone = tone;
    else delete cell.dataset.tone;
    if (FLASHING.has(column)) flash(cell, tone);
  }

  function apply(rows) {
    for (const [id, cells] of Object.entries(rows)) {
      const row = document.getElementById(id);
      if (!row) continue;
      delete row.dataset.stale;
      for (const [column, cell] of Object.entries(cells)) {
        const place = row.dataset.cell === column ? row : row.querySelector(`[data-cell="${column}"]`);
        if (place) write(place, column, cell);
      }
    }
  }

  function watch() {
    for (const row of watched) {
      if (row.isConnected) continue;
      sight.unobserve(row); // or it would keep the row for ever
      watched.delete(row);
    }
    for (const row of document.querySelectorAll("table.sheet :is(tbody, tfoot) tr")) {
      if (watched.has(row)) continue;
      sight.observe(row);
      watched.add(row);
    }
  }

  document.addEventListener("DOMContentLoaded", watch);
  document.addEventListener("htmx:after:swap", (event) => event.target.closest?.(".panel-open, #stream") && watch());
  document.addEventListener("px", (event) => apply(JSON.parse(event.detail.data)));
})();
