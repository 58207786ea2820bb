import { hasOpenOperation, idempotentFetch } from "../django_idempotency/idempotent-fetch.js";

const form = document.querySelector("form");
const answers = document.querySelector("ol");

form.addEventListener("submit", (event) => {
  event.preventDefault();
  void pay();
});

async function pay() {
  const { cart, csrfmiddlewaretoken } = form.elements;
  const headers = { "Content-Type": "application/json", "X-CSRFToken": csrfmiddlewaretoken.value };
  const body = JSON.stringify({ cart: Number(cart.value) });
  const options = { operation: "pay", tries: Number(form.dataset.tries), ask: form.dataset.ask === "true" };
  let said;
  try {
    said = inWords(await idempotentFetch(form.getAttribute("action"), { headers, body }, options));
  } catch (error) {
    said = error.name;
  }
  answers.append(Object.assign(document.createElement("li"), { textContent: said }));
  document.body.dataset.open = hasOpenOperation("pay");
}

function inWords(answer) {
  const replayed = answer.headers.get("Idempotency-Replayed") ? " replayed" : "";
  return `${answer.status}${replayed}${answer.redirected ? " elsewhere" : ""}`;
}

document.body.dataset.ready = "true";
