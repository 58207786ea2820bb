// The lab's page: starts a run, and shows what happens while it happens.

import { follow } from "./events.js";
import { Side } from "./side.js";
import { Announcer } from "./announcer.js";

const form = document.querySelector("#stories");
const arena = document.querySelector("#arena");
const announcer = new Announcer(arena);
const sides = new Map(
  [...arena.querySelectorAll("[data-side]")].map((element) => [element.dataset.side, new Side(element)]),
);

// What is asked for, and with which key: the same for each click until there is an answer.
let operation = null;
// Whether an answer to it is awaited, and which run is watched.
let isStarting = false;
let watching = null;

form.addEventListener("submit", (event) => {
  event.preventDefault();
  event.stopPropagation(); // no page is on its way, as the shop would say
  const { value: story } = event.submitter;
  if (watching || (isStarting && operation.story !== story)) {
    announcer.note("A run is underway. The next one can start when it is over.");
    show();
  } else {
    start(story);
  }
});

if (arena.dataset.events) {
  watch(arena.dataset.story, arena.dataset.events);
}

async function start(story) {
  if (operation?.story !== story) operation = { story, key: crypto.randomUUID() };
  if (!isStarting) {
    announcer.begin(plotOf(story));
    sides.forEach((side) => side.clear());
    show();
  }
  isStarting = true;
  mark(story);
  try {
    const answer = await fetch(form.action, {
      method: "POST",
      body: new URLSearchParams({ story }),
      headers: { "Idempotency-Key": operation.key, "X-CSRFToken": csrfToken() },
    });
    // An answer that isn't JSON comes from a check before the view, such as CSRF.
    took(answer.status, await answer.json().catch(() => ({})));
  } catch {
    finish();
    announcer.error(
      "The lab does not answer.",
      "If the demo was ended, start it again and open the address that it prints; else press the button again.",
    );
  }
}

function took(status, answer) {
  operation = null;
  isStarting = false;
  if (answer.events) {
    watch(answer.story, answer.events);
    if (status === 409) announcer.note(answer.detail);
  } else {
    finish();
    announcer.error(answer.detail ?? "The lab refused to start that.", "Please press the button again.");
  }
}

function watch(story, events) {
  if (watching === events) return; // the answer to a second click
  watching = events;
  mark(story);
  announcer.begin(plotOf(story));
  sides.forEach((side) => side.clear());
  follow(events, {
    happened: take,
    cut: () => announcer.note("The line to the lab is cut; trying again."),
    back: () => announcer.note(""),
    gone: () => {
      finish();
      announcer.error("The lab has lost this run.", "It was started anew, perhaps. Please press the button again.");
    },
    over: finish,
  });
}

function take(event) {
  if (event.side) {
    sides.get(event.side).take(event);
  } else if (event.kind === "end") {
    announcer.conclude(event);
  } else if (event.kind === "error") {
    announcer.error(event.text, event.advice);
  }
  announcer.progress([...sides.values()]);
}

function finish() {
  isStarting = false;
  watching = null;
  mark(null);
  announcer.end();
  sides.forEach((side) => side.end());
}

function mark(story) {
  form.classList.toggle("is-underway", story !== null);
  arena.setAttribute("aria-busy", String(story !== null));
  for (const button of form.querySelectorAll("button")) {
    button.setAttribute("aria-disabled", String(story !== null));
    button.toggleAttribute("data-chosen", button.value === story);
  }
}

function show() {
  const { top } = arena.getBoundingClientRect();
  if (top >= 0 && top < innerHeight / 3) return;
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  arena.scrollIntoView({ behavior: isCalm ? "auto" : "smooth" });
}

function plotOf(story) {
  return document.getElementById(`plot-${story}`).textContent;
}

function csrfToken() {
  // From the cookie, which is new after somebody has signed in in another tab.
  return document.cookie.match(/(?:^|;\s*)csrftoken=([^;]+)/)?.[1] ?? form.elements.csrfmiddlewaretoken.value;
}
