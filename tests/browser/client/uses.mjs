// @ts-check
/** What a page may write and what it may not; run by nobody but TypeScript. */
import {
  askOutcome,
  forgetOperation,
  hasOpenOperation,
  idempotentFetch,
} from "../../../django_idempotency/static/django_idempotency/idempotent-fetch.js";

const url = new URL("https://shop.test/orders/");

const answer = await idempotentFetch(url, { body: "{}" }, { operation: "pay", tries: 2, ask: true });
/** @type {boolean} */
export const isOk = answer.ok;
const asked = await askOutcome("/orders/", {}, { operation: "pay" });
/** @type {string | null | undefined} */
export const state = asked?.state;
/** @type {boolean} */
export const isOpen = hasOpenOperation("pay");
forgetOperation("pay");

// Each of these would be an error of the page's; if none is found, that is one here.
// @ts-expect-error - an operation has a name
await idempotentFetch(url, {}, {});
// @ts-expect-error - a Request can be sent only once
await idempotentFetch(new Request(url), {}, { operation: "pay" });
// @ts-expect-error - there is no such option
await idempotentFetch(url, {}, { operation: "pay", retries: 3 });
// @ts-expect-error - a number of milliseconds
await idempotentFetch(url, {}, { operation: "pay", tryMs: "1s" });
// @ts-expect-error - it may be null
asked.state;
// @ts-expect-error - a number is no name
hasOpenOperation(7);
