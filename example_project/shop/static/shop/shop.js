// Shows that a form is on its way. It leaves the button alone: that a second click does
// nothing twice is the server's business, and a click that got lost can be repeated.

const progress = document.querySelector("[data-progress]");

function show(button, isBusy) {
  button?.toggleAttribute("data-busy", isBusy);
  progress.textContent = isBusy ? "Sending…" : "";
}

document.addEventListener("submit", (event) => show(event.submitter, true));

// A page that comes back by the back button is as it was left.
window.addEventListener("pageshow", () => {
  show(document.querySelector("[data-busy]"), false);
});
