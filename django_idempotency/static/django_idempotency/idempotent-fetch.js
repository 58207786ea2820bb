// @ts-check
/**
 * Sends what must not be done twice. An operation is what a customer wants done once. It
 * keeps one key through all attempts and page reloads, until an answer ends it.
 *
 * Which answers do, and why, is explained in the documentation, "Send a key from a
 * browser".
 */

const PREFIX = "django-idempotency:";
const DOUBLE_CLICK_MS = 2000;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 8000;

// These answers come from a check before the view, or don't state an outcome. They say
// nothing about an earlier attempt whose answer was lost.
const SAYS_NOTHING = new Set([401, 403, 405, 406, 408, 413, 415, 421, 423, 424, 425, 429]);

// The operation is being done, may have been done, or was done: sent under a new key, it
// would be done once more.
const KEEPS_KEY = new Set(["in-flight", "outcome-unknown", "answer-unavailable"]);

/** @type {Map<string, string>} Used where `sessionStorage` is blocked or full. */
const memory = new Map();

/** @type {Map<string, {key: string, content: unknown}>} By the operation's name. */
const justEnded = new Map();

/**
 * @typedef {object} IdempotentOptions
 * @property {string} operation Names what the customer is about to do, as in `pay cart 7`.
 *   Calls with the same name are the same operation.
 * @property {string} [header] The setting IDEMPOTENCY_HEADER; by default `Idempotency-Key`.
 * @property {number} [tries] How many attempts may fail, by the network or with 5xx; by
 *   default 6.
 * @property {number} [tryMs] How long one attempt may take, including its whole answer; by
 *   default 30,000.
 * @property {number} [deadlineMs] How long all attempts together may take; by default
 *   90,000.
 */

/**
 * Like `fetch`, but POST by default and with one key for each operation. Tries again after
 * a lost answer, 5xx and 409 `in-flight`, and after nothing else.
 *
 * Returns the last answer, or throws what the last `fetch` threw. Until an answer ends the
 * operation, the next call with its name sends the same key.
 *
 * @param {string | URL} url
 * @param {RequestInit} init Its `signal` stops the attempts and leaves the operation open.
 * @param {IdempotentOptions} options
 * @returns {Promise<Response>}
 */
export async function idempotentFetch(url, init, options) {
  const { operation, header = "Idempotency-Key" } = options;
  const { tries = 6, tryMs = 30_000, deadlineMs = 90_000 } = options;
  const sendable = typeof url === "string" || url instanceof URL;
  if (!sendable || init.body instanceof ReadableStream) {
    throw new TypeError("Give a URL and a body that can be sent again: not a Request and not a stream.");
  }
  if (!operation) throw new TypeError("Name the operation, as in { operation: `pay cart ${cart.id}` }.");
  const headers = new Headers(init.headers);
  const request = { method: "POST", ...init, headers };
  new Request(url, request); // throws now if something in it is wrong
  init.signal?.throwIfAborted();

  let { key, isOpen } = begin(operation, init.body); // in the same moment as the click
  headers.set(header, key);
  // Whoever prefers HTML still needs refusals as problem documents, with their code.
  if (headers.has("Accept")) headers.append("Accept", "application/problem+json");
  const deadline = performance.now() + deadlineMs;
  for (let failures = 0; ; ) {
    let answer, lost, code;
    try {
      ({ answer, code } = await tryOnce(url, request, Math.min(tryMs, deadline - performance.now())));
    } catch (error) {
      init.signal?.throwIfAborted();
      lost = error;
    }
    if (answer && answer.status < 500 && code !== "in-flight") {
      const isFinal = !KEEPS_KEY.has(code ?? "") && !(isOpen && saysNothing(answer, url));
      if (isFinal) end(operation, key, init.body);
      return answer;
    }
    isOpen = true;
    if (code !== "in-flight") failures += 1;
    const pauseMs = Math.max(retryAfterMs(answer), backoffMs(failures));
    if (failures >= tries || performance.now() + pauseMs >= deadline) {
      if (answer) return answer;
      throw lost;
    }
    await pause(pauseMs, init.signal);
  }
}

/**
 * Whether the outcome of this operation is unknown: its answer was lost, or the page was
 * left before it came.
 *
 * @param {string} operation
 */
export function hasOpenOperation(operation) {
  return storage().getItem(PREFIX + operation) !== null;
}

/**
 * Makes the next call with this name a new operation. Call it when you learn the outcome
 * of this one in another way.
 *
 * @param {string} operation
 */
export function forgetOperation(operation) {
  justEnded.delete(operation);
  storage().removeItem(PREFIX + operation);
}

/** @param {string} operation @param {unknown} body */
function begin(operation, body) {
  const open = storage().getItem(PREFIX + operation);
  if (open !== null) return { key: open, isOpen: true };
  // The second click of a double click may come after the answer to the first.
  const ended = justEnded.get(operation);
  if (ended && ended.content === contentOf(body)) return { key: ended.key, isOpen: false };
  const key = newKey();
  storage().setItem(PREFIX + operation, key);
  return { key, isOpen: false };
}

/** @param {string} operation @param {string} key @param {unknown} body */
function end(operation, key, body) {
  const ended = { key, content: contentOf(body) };
  justEnded.set(operation, ended);
  setTimeout(() => justEnded.get(operation) === ended && justEnded.delete(operation), DOUBLE_CLICK_MS);
  if (storage().getItem(PREFIX + operation) === key) storage().removeItem(PREFIX + operation);
}

/** @param {string | URL} url @param {RequestInit} request @param {number} ms */
async function tryOnce(url, request, ms) {
  const alarm = new AbortController();
  const late = new DOMException("There was no answer in time.", "TimeoutError");
  const timer = setTimeout(() => alarm.abort(late), ms);
  const signals = request.signal ? [request.signal, alarm.signal] : [alarm.signal];
  try {
    const answer = await fetch(url, { ...request, signal: AbortSignal.any(signals) });
    const text = await answer.clone().text(); // an answer that breaks off counts as lost
    return { answer, code: codeIn(answer, text) };
  } finally {
    clearTimeout(timer);
  }
}

/** @param {Response} answer @param {string} text @returns {string | undefined} */
function codeIn(answer, text) {
  if (!answer.headers.get("Content-Type")?.startsWith("application/problem+json")) return undefined;
  try {
    return JSON.parse(text).code;
  } catch {
    return undefined;
  }
}

/** @param {Response} answer @param {string | URL} url */
function saysNothing(answer, url) {
  // Django sends whoever has to sign in to a page with `next`, the path to return to.
  const next = answer.redirected && new URL(answer.url).searchParams.get("next");
  const { pathname } = new URL(url, globalThis.location?.href);
  return SAYS_NOTHING.has(answer.status) || (next && next.split("?")[0].endsWith(pathname));
}

/** @param {Response | undefined} answer */
function retryAfterMs(answer) {
  const value = answer?.headers.get("Retry-After") ?? "";
  const ms = /^\d+$/.test(value) ? 1000 * Number(value) : Date.parse(value) - Date.now();
  return Math.max(0, ms || 0);
}

/** @param {number} failures Full jitter keeps clients that failed together apart. */
function backoffMs(failures) {
  return Math.random() * Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (failures - 1));
}

/** @param {number} ms @param {AbortSignal | null | undefined} signal */
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => (signal?.removeEventListener("abort", stop), resolve(undefined)), ms);
    const stop = () => (clearTimeout(timer), reject(signal?.reason));
    signal?.addEventListener("abort", stop);
  });
}

/** @param {unknown} body Returns what tells bodies apart, while this page is open. */
function contentOf(body) {
  if (body instanceof URLSearchParams) return String(body);
  if (!(body instanceof FormData)) return body;
  const fields = [...body].map(([name, value]) =>
    typeof value === "string" ? [name, value] : [name, value.name, value.size, value.lastModified],
  );
  return JSON.stringify(fields);
}

/** A random UUID, also on plain http, where `crypto.randomUUID` is missing. */
function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] % 16) + 0x40; // version 4
  bytes[8] = (bytes[8] % 64) + 0x80; // of RFC 9562
  const digits = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** The tab's storage; where that is blocked or full, one that lasts as long as the page. */
function storage() {
  try {
    sessionStorage.setItem(PREFIX, "");
    sessionStorage.removeItem(PREFIX);
    return sessionStorage;
  } catch {
    return {
      getItem: (/** @type {string} */ name) => memory.get(name) ?? null,
      setItem: (/** @type {string} */ name, /** @type {string} */ value) => memory.set(name, value),
      removeItem: (/** @type {string} */ name) => memory.delete(name),
    };
  }
}
