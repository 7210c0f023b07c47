/* Asks for an action in a dialog over the page it stands on: what would be a page of its own is shown here; decides nothing. */
"use strict";

(() => {
  const ASK_AGAIN_MS = 1000; // about a request that nobody has settled yet
  const ACTION = 'a.act[href*="/actions/"]';
  const dialog = document.createElement("dialog");
  dialog.className = "slip asking";
  dialog.setAttribute("aria-labelledby", "asking-title");
  let shown = 0; // counts what the dialog has shown: an answer to something older is dropped

  async function load(address, options = {}) {
    const answer = await fetch(address, { ...options, headers: { accept: "text/html" } });
    if (answer.status === 401) throw new Error("the login has ended");
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const slip = page.querySelector("main.slip");
    if (!slip?.querySelector("h1")) throw new Error(`${answer.status} without a page of the action`);
    slip.querySelector(".brand")?.remove();
    return { slip, address: answer.url, isOpen: Boolean(page.querySelector('meta[http-equiv="refresh"]')) };
  }

  function show({ slip, address, isOpen }) {
    const mine = ++shown;
    slip.querySelector("h1").id = "asking-title";
    dialog.replaceChildren(...slip.children);
    if (!dialog.open) dialog.showModal();
    dialog.querySelector(".way-back").focus(); // the way that changes nothing
    if (isOpen) setTimeout(() => look(address, mine), ASK_AGAIN_MS);
  }

  async function look(address, mine) {
    if (!dialog.open || mine !== shown) return;
    const found = await load(address).catch(() => ({ isOpen: true }));
    if (!dialog.open || mine !== shown) return;
    if (found.isOpen) setTimeout(() => look(address, mine), ASK_AGAIN_MS);
    else show(found);
  }

  function onClick(event) {
    const link = event.target.closest?.(ACTION);
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    load(link.href).then(show, () => location.assign(link.href)); // the page itself says what is wrong
  }

  function onSubmit(event) {
    event.preventDefault();
    const form = event.target;
    for (const button of form.querySelectorAll("button")) button.disabled = true; // one press, one request
    const body = new URLSearchParams(new FormData(form));
    load(form.action, { method: "POST", body }).then(show, () => location.assign(form.action));
  }

  function isBeside({ clientX: x, clientY: y }) {
    const box = dialog.getBoundingClientRect();
    return x < box.left || x > box.right || y < box.top || y > box.bottom;
  }

  dialog.addEventListener("submit", onSubmit);
  dialog.addEventListener("click", (event) => {
    const isLeft = event.target === dialog ? isBeside(event) : event.target.closest(".way-back");
    if (!isLeft) return;
    event.preventDefault(); // the page is still there
    dialog.close();
  });
  document.addEventListener("click", onClick);
  document.addEventListener("DOMContentLoaded", () => document.body.append(dialog));
})();
