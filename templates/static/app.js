/* What the page does on its own: ages that count, the state of the connection, the colours; never draws data. */
"use strict";

(() => {
  const STALE_MS = 15_000; // three polls of the server without a word
  const THEMES = ["auto", "dark", "light"];
  const root = document.documentElement;
  const pulses = new Map(); // account -> when the server last read its tables, by the server's clock
  let skewMs = 0; // server's clock minus ours
  let connected = false;
  let paused = false;

  const now = () => Date.now() + skewMs;

  function showTheme(theme) {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (button) button.textContent = theme[0].toUpperCase() + theme.slice(1);
  }

  function nextTheme() {
    const theme = THEMES[(THEMES.indexOf(localStorage.getItem("theme") || "auto") + 1) % THEMES.length];
    localStorage.setItem("theme", theme);
    showTheme(theme);
  }

  function span(ms) {
    const s = Math.max(0, Math.round(ms / 1000));
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
    return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
  }

  function setText(element, text) {
    if (element && element.textContent !== text) element.textContent = text;
  }

  function countAges() {
    for (const element of document.querySelectorAll("time[data-age]")) {
      setText(element, span(now() - Date.parse(element.dateTime)));
    }
    for (const element of document.querySelectorAll("time[data-until]")) {
      setText(element, span(Date.parse(element.dateTime) - now()));
    }
  }

  function showAccounts() {
    let stale = false;
    for (const card of document.querySelectorAll("[data-account]")) {
      const pulse = pulses.get(card.dataset.account);
      const age = pulse === undefined ? Infinity : now() - pulse;
      const state = paused ? "paused" : !connected ? "disconnected" : age > STALE_MS ? "stale" : "live";
      stale ||= state === "stale";
      card.dataset.state = state;
      setText(card.querySelector(".age-word"), state === "live" ? "live" : state);
      setText(card.querySelector(".age-value"), pulse === undefined ? "" : span(age));
    }
    const state = paused ? "paused" : !connected ? "disconnected" : stale ? "stale" : "live";
    const pill = document.getElementById("connection");
    pill.dataset.state = state;
    setText(pill, state);
  }

  function tick() {
    setText(document.getElementById("clock"), `${new Date(now()).toISOString().slice(11, 19)} UTC`);
    countAges();
    showAccounts();
  }

  function onPulse(event) {
    const pulse = JSON.parse(event.detail.data);
    const at = Date.parse(pulse.at);
    skewMs = at - Date.now();
    pulses.set(pulse.slug, at);
  }

  function connection(isUp) {
    return () => {
      connected = isUp;
      showAccounts();
    };
  }

  function pause() {
    if (paused) return location.reload(); // everything missed comes with the page
    paused = true;
    const button = document.getElementById("pause");
    button.setAttribute("aria-pressed", "true");
    setText(button, "Resume");
    showAccounts();
  }

  showTheme(localStorage.getItem("theme") || "auto");
  document.addEventListener("pulse", onPulse);
  document.addEventListener("htmx:sse:before:message", (event) => paused && event.preventDefault());
  document.addEventListener("htmx:sse:before:connection", (event) => event.detail.connection.attempt > 0 && connection(false)());
  document.addEventListener("htmx:sse:after:connection", connection(true));
  document.addEventListener("htmx:sse:error", connection(false));
  document.addEventListener("htmx:sse:close", connection(false));
  document.addEventListener("htmx:sse:after:message", () => {
    countAges();
    showAccounts();
    root.dataset.live = "";
  });
  document.addEventListener("DOMContentLoaded", () => {
    showTheme(localStorage.getItem("theme") || "auto");
    document.getElementById("theme").addEventListener("click", nextTheme);
    document.getElementById("pause").addEventListener("click", pause);
    countAges();
    setInterval(tick, 1000);
  });
})();
