/* What the page does on its own: ages that count, the state of the connection, the colours; never draws data. */
"use strict";

(() => {
  const STALE_MS = 11_000; // twice the time after which the server reads again, and a second for the reading
  const THEMES = ["auto", "dark", "light"];
  const root = document.documentElement;
  const opened = new Set(); // ids of <details>
  let bareTitle = "";
  let silentSince = 0; // by our own clock, 0 while all is well
  let newestPulse = 0; // when the server last read its tables, by its own clock
  let skewMs = 0; // the server's clock minus ours
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

  function readPulses() {
    for (const pulse of document.querySelectorAll("time.pulse[datetime]")) {
      const at = Date.parse(pulse.dateTime);
      if (at <= newestPulse) continue;
      newestPulse = at;
      skewMs = at - Date.now();
    }
  }

  function showAccounts() {
    let stale = false;
    for (const account of document.querySelectorAll("[data-account]")) {
      const pulse = Date.parse(account.querySelector("time.pulse").dateTime); // not a number before the first
      const age = Number.isNaN(pulse) ? Infinity : now() - pulse;
      const state = paused ? "paused" : !connected ? "disconnected" : age > STALE_MS ? "stale" : "live";
      stale ||= state === "stale";
      account.dataset.state = state;
      setText(account.querySelector(".age-word"), state === "live" ? "live" : state);
      setText(account.querySelector(".age-value"), age === Infinity ? "" : span(age));
    }
    const state = paused ? "paused" : !connected ? "disconnected" : stale ? "stale" : "live";
    const pill = document.getElementById("connection");
    pill.hidden = !document.getElementById("stream"); // a page that is not kept current says nothing
    pill.dataset.state = state;
    setText(pill, state);
    showSilence(state);
  }

  function showSilence(state) {
    if (state === "live" || state === "paused") silentSince = 0;
    else silentSince ||= Date.now();
    const banner = document.getElementById("silence");
    const known = document.querySelector("#notice p"); // the server itself says what is wrong
    const isSilent = state === "stale" || (silentSince && Date.now() - silentSince > STALE_MS);
    banner.hidden = !isSilent || Boolean(known) || !document.getElementById("stream");
    if (!banner.hidden) setText(banner, "No sign of life from the server: everything on this page is old. It comes back by itself.");
  }

  /* The tab says how the day goes, also while another one is in front. */
  function showDay() {
    const standing = document.querySelector(".standing[data-day]");
    if (!standing) return;
    const { day, tone } = standing.dataset;
    const title = `${day} · ${bareTitle}`;
    if (document.title !== title) document.title = title;
    const icon = document.getElementById("favicon");
    const href = icon.dataset[tone] || icon.dataset.even;
    if (icon.getAttribute("href") !== href) icon.setAttribute("href", href);
  }

  function tick() {
    setText(document.getElementById("clock"), `${new Date(now()).toISOString().slice(11, 19)} UTC`);
    countAges();
    showAccounts();
  }

  function connection(isUp) {
    return () => {
      connected = isUp;
      showAccounts();
    };
  }

  function logIn() {
    location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
  }

  function onPoll(event) {
    if (event.detail.ctx.response?.status === 401) return logIn();
    connected = event.detail.ctx.response?.status === 200;
    showAccounts();
  }

  function takeNews() {
    readPulses();
    countAges();
    showAccounts();
    showDay();
  }

  function pause() {
    if (paused) return location.reload(); // everything missed comes with the page
    paused = true;
    const button = document.getElementById("pause");
    button.setAttribute("aria-pressed", "true");
    setText(button, "Resume");
    showAccounts();
  }

  /* What a person opened stays open when the server sends a new state of it. */
  function noteClick(event) {
    const details = event.target.closest?.("summary")?.parentElement;
    if (!details?.id) return;
    if (details.open) opened.delete(details.id); // it is about to close
    else opened.add(details.id);
  }

  function openAgain() {
    for (const id of opened) {
      const details = document.getElementById(id);
      if (details) details.open = true;
    }
  }

  showTheme(localStorage.getItem("theme") || "auto");
  document.addEventListener("click", noteClick);
  document.addEventListener("htmx:after:swap", () => {
    openAgain();
    takeNews();
  });
  document.addEventListener("htmx:sse:before:message", (event) => paused && event.preventDefault());
  document.addEventListener("htmx:sse:before:connection", (event) => event.detail.connection.attempt > 0 && connection(false)());
  document.addEventListener("htmx:sse:after:connection", connection(true));
  document.addEventListener("htmx:sse:error", connection(false));
  document.addEventListener("htmx:sse:error", (event) => event.detail.status === 401 && logIn());
  document.addEventListener("htmx:sse:close", connection(false));
  document.addEventListener("htmx:before:request", (event) => paused && event.target.id === "stream" && event.preventDefault());
  document.addEventListener("htmx:after:request", (event) => event.target.classList?.contains("polls") && onPoll(event));
  document.addEventListener("htmx:error", (event) => event.target.classList?.contains("polls") && connection(false)());
  document.addEventListener("htmx:sse:after:message", () => {
    takeNews();
    root.dataset.live = "";
  });
  document.addEventListener("DOMContentLoaded", () => {
    showTheme(localStorage.getItem("theme") || "auto");
    document.getElementById("theme").addEventListener("click", nextTheme);
    document.getElementById("pause").addEventListener("click", pause);
    bareTitle = document.title;
    readPulses();
    countAges();
    showDay();
    setInterval(tick, 1000);
  });
})();
