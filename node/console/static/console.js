"use strict";
// Everything works without this script. It keeps what lives on a page current, and copies a code.

const EVERY_MS = 2000;

function follow(area) {
  const said = document.querySelector("[data-live-said]");
  const again = document.querySelector("[data-live-again]");
  let seen = area.dataset.seen;
  let paused = false;

  const pause = document.createElement("button");
  pause.type = "button";
  pause.className = "quiet";
  pause.textContent = "Pause";
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    tell(paused ? "Paused." : "This page keeps itself current.");
  });
  again.replaceWith(pause);
  tell("This page keeps itself current.");

  function tell(text) {
    if (said.textContent !== text) said.textContent = text;
  }

  function show(text) {
    const held = area.contains(document.activeElement) ? document.activeElement : null;
    const address = held && held.getAttribute("href");
    const region = held && held.getAttribute("aria-label");
    const made = new DOMParser().parseFromString(text, "text/html");
    area.replaceChildren(...made.body.childNodes);
    if (address) area.querySelector(`a[href="${CSS.escape(address)}"]`)?.focus({ preventScroll: true });
    else if (region) area.querySelector(`[aria-label="${CSS.escape(region)}"]`)?.focus({ preventScroll: true });
  }

  async function look() {
    const began = performance.now();
    if (!paused && document.visibilityState === "visible") {
      const address = new URL(location.href);
      address.hash = "";
      address.searchParams.set("seen", seen);
      try {
        const answer = await fetch(address, { redirect: "error" });
        if (answer.status === 401 || answer.status === 403) {
          tell("You are logged out: load the page anew.");
          return;
        }
        if (answer.status === 200) {
          const mark = answer.headers.get("X-Seen");
          const text = await answer.text();
          seen = mark;
          show(text);
          tell(`Changed at ${new Date().toISOString().slice(11, 19)} UTC.`);
        } else if (answer.status !== 204) {
          tell("The node does not answer as it should; this page may be old.");
        }
      } catch {
        tell("The node cannot be reached; this page may be old.");
      }
    }
    setTimeout(look, Math.max(EVERY_MS, 5 * (performance.now() - began)));
  }
  setTimeout(look, EVERY_MS);
}

function copies(button) {
  const from = document.getElementById(button.dataset.copy);
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(from.value);
    button.textContent = "Copied";
  });
}

const area = document.querySelector("[data-live]");
if (area && document.querySelector("[data-live-again]")) follow(area);
document.querySelectorAll("[data-copy]").forEach(copies);
