// Sends the key of a form of REST framework's browsable API in the header that the form
// names: raw data has no place for it, and the framework's script knows of no headers.
(() => {
  let key = null;
  const remember = (event) => (key = event.target.querySelector("[data-idempotency-header]"));
  document.addEventListener("submit", remember, true); // before the framework's own
  globalThis.jQuery(document).ajaxSend((event, request) => {
    if (key) request.setRequestHeader(key.dataset.idempotencyHeader, key.value);
  });
})();
