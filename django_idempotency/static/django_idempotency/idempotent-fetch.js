// @ts-check
/**
 * Sends what must not be done twice. An operation is what a customer wants done once. It
 * keeps one key through all attempts and page reloads, until an answer ends it.
 *
 * Which answers do is said by the server, in a header: whatever stands between can answer
 * with any status. It is explained in the documentation, "Send a key from a browser".
 */

const PREFIX = "django-idempotency:";
const DOUBLE_CLICK_MS = 2000;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 8000;

const ENDED = "Idempotency-Ended";
// A redirect that fetch follows hides its own headers, so the server is asked to tell
// where it leads instead.
const TELL_REDIRECT = "Idempotency-Redirect";
const LOCATION = "Idempotency-Location";

const ASK = "Idempotency-Ask";
const STATE = "Idempotency-State";
// With any other there is something to send, or nothing was told.
const TOLD = new Set(["done", "running", "held", "gone"]);

/** What a problem document of the server's says in `retry`. @type {Set<unknown>} */
const RETRIES = new Set(["same-key", "new-key", "no"]);

/** Of several sendings with different content, or of one from an earlier page. */
const UNKNOWN = Symbol("unknown");

/**
 * What is open, as this page knows it, whatever becomes of the tab's storage meanwhile.
 * @type {Map<string, {key: string, isInTab: boolean, content: unknown}>}
 */
const open = new Map();

/** @type {Map<string, {key: string, content: unknown}>} By the operation's name. */
const justEnded = new Map();

// Back from the browser's cache of pages: a later page may have ended what was open here.
globalThis.addEventListener?.("pageshow", (event) => {
  if (!(/** @type {PageTransitionEvent} */ (event).persisted)) return;
  for (const [operation, { isInTab }] of open) if (isInTab) open.delete(operation);
});

/**
 * @typedef {object} IdempotentOptions
 * @property {string} operation Names what the customer is about to do, as in `pay cart 7`.
 *   Calls with the same name are the same operation.
 * @property {boolean} [ask] Whether the server can be asked what became of a request, by
 *   its `OutcomeMiddleware`: then it is asked before anything is sent again. By default
 *   false.
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
 * a lost answer, a problem that says `"retry": "same-key"`, such as `in-flight`, and 5xx
 * that says nothing of it, and after nothing else.
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
  const { operation, header = "Idempotency-Key", ask = false } = options;
  const { tries = 6, tryMs = 30_000, deadlineMs = 90_000 } = options;
  const sendable = typeof url === "string" || url instanceof URL;
  if (!sendable || init.body instanceof ReadableStream) {
    throw new TypeError("Give a URL and a body that can be sent again: not a Request and not a stream.");
  }
  requireName(operation);
  const request = prepared(url, init);
  throwIfAborted(init.signal);

  const key = begin(operation, init.body); // in the same moment as the click
  request.headers.set(header, key);
  const question = questionAbout(request);
  const deadline = performance.now() + deadlineMs;
  let asks = false;
  for (let failures = 0; ; ) {
    let tried, lost;
    try {
      const ms = Math.min(tryMs, deadline - performance.now());
      tried = await tryOnce(url, asks ? question : request, header, ms);
    } catch (error) {
      throwIfAborted(init.signal);
      lost = error;
    }
    if (asks && tried && !TOLD.has(tried.state ?? "")) {
      throwIfAborted(init.signal);
      asks = false;
      continue;
    }
    // Not again where the question was lost. And not where something else was sent before:
    // its answer would be taken for that to what is sent now.
    asks = ask && !(asks && !tried) && isAllThatWasSent(operation, key, init.body);
    const { answer, isOver = false, isInFlight = false, retry } = tried ?? {};
    if (isOver) end(operation, key, init.body);
    // What says nothing of it comes from somebody else.
    const isWanted = RETRIES.has(retry) ? retry === "same-key" : isInFlight || (answer?.status ?? 0) >= 500;
    if (answer && (isOver || !isWanted)) {
      if (answer.ok && !isOver) console.warn(STAYS, operation);
      return answer;
    }
    if (!isInFlight) failures += 1;
    let pauseMs = Math.max(retryAfterMs(answer), backoffMs(failures));
    // The rest of a long lease: whoever has it may be done long before it is over.
    if (isInFlight) pauseMs = Math.min(pauseMs, LONGEST_PAUSE_MS);
    if (failures >= tries || performance.now() + pauseMs >= deadline) {
      if (answer) return answer;
      throw lost;
    }
    await pause(pauseMs, init.signal);
  }
}

/**
 * Asks what became of an open operation without sending it: after a reload the page may
 * not have its content any more. The server needs the `OutcomeMiddleware`.
 *
 * Returns `null` if none is open; else the answer, and as `state` what it says: "done",
 * and `answer` is the first one, "running", "held", "gone", "unfinished" or "unknown".
 * `null` as `state` says that nothing was told, as when the customer has to sign in first.
 *
 * @param {string | URL} url
 * @param {RequestInit} init As it was sent; its `body` isn't needed.
 * @param {IdempotentOptions} options
 * @returns {Promise<{state: string | null, answer: Response} | null>}
 */
export async function askOutcome(url, init, options) {
  const { operation, header = "Idempotency-Key", tryMs = 30_000 } = options;
  requireName(operation);
  const key = openKey(operation);
  if (key === null) return null;
  const request = prepared(url, { ...init, body: undefined });
  request.headers.set(header, key);
  const { answer, state, isOver } = await tryOnce(url, questionAbout(request), header, tryMs);
  // The customer may have pressed already, not knowing that it is done.
  if (isOver && openKey(operation) === key) end(operation, key, open.get(operation)?.content ?? UNKNOWN);
  return { state, answer };
}

const STAYS =
  `This answer has no header ${ENDED}, so the operation keeps its key: %o. Either it comes from something in front ` +
  "of the view, or the view isn't protected, or its origin doesn't expose the header (see the documentation, CORS).";

/**
 * Whether no answer has ended this operation yet: it was lost, or was none of the view's,
 * or the page was left before it came.
 *
 * @param {string} operation
 */
export function hasOpenOperation(operation) {
  return openKey(operation) !== null;
}

/**
 * Makes the next call with this name a new operation. Call it when you learn the outcome
 * of this one in another way.
 *
 * @param {string} operation
 */
export function forgetOperation(operation) {
  justEnded.delete(operation);
  close(operation);
}

/** @param {string} operation */
function requireName(operation) {
  if (!operation) throw new TypeError("Name the operation, as in { operation: `pay cart ${cart.id}` }.");
}

/** What is sent each time, less the key. @param {string | URL} url @param {RequestInit} init */
function prepared(url, init) {
  const headers = new Headers(init.headers);
  const request = { method: "POST", ...init, headers };
  const sample = new Request(url, request); // throws now if something in it is wrong
  if (sample.redirect === "manual" || sample.mode === "no-cors") {
    throw new TypeError('Leave out redirect: "manual" and mode: "no-cors": they hide what the answer says.');
  }
  // Whoever prefers HTML still needs refusals as problem documents, with their code.
  if (headers.has("Accept")) headers.append("Accept", "application/problem+json");
  const isOwn = new URL(sample.url).origin === globalThis.location?.origin; // else CORS might refuse it
  if (isOwn && sample.redirect === "follow") headers.set(TELL_REDIRECT, "tell");
  return request;
}

/** @param {RequestInit & {method: string, headers: Headers}} request @returns {RequestInit} */
function questionAbout({ method, body, ...request }) {
  const headers = new Headers(request.headers);
  headers.delete("Content-Type");
  headers.set(ASK, method.toUpperCase());
  return { ...request, method: "GET", headers, cache: "no-store" };
}

/** @param {string} operation @param {string} key @param {unknown} body */
function isAllThatWasSent(operation, key, body) {
  const sent = open.get(operation);
  return sent?.key === key && sent.content === contentOf(body);
}

/** @param {string} operation @param {unknown} body */
function begin(operation, body) {
  const key = openKey(operation);
  // The second click of a double click may come after the answer to the first.
  const ended = justEnded.get(operation);
  const content = contentOf(body);
  // Where the page doesn't know what was sent, the server compares.
  if (key === null && ended && [content, UNKNOWN].includes(ended.content)) return ended.key;
  const isAll = key === null || open.get(operation)?.content === content;
  return remember(operation, key ?? newKey(), isAll ? content : UNKNOWN);
}

/** @param {string} operation @param {string} key @param {unknown} body */
function end(operation, key, body) {
  const ended = { key, content: contentOf(body) };
  justEnded.set(operation, ended);
  setTimeout(() => justEnded.get(operation) === ended && justEnded.delete(operation), DOUBLE_CLICK_MS);
  if (openKey(operation) === key) close(operation);
}

/** @param {string} operation @returns {string | null} */
function openKey(operation) {
  return open.get(operation)?.key ?? inTab((tab) => tab.getItem(PREFIX + operation)) ?? null;
}

/** @param {string} operation @param {string} key @param {unknown} content */
function remember(operation, key, content) {
  const isInTab = inTab((tab) => (tab.setItem(PREFIX + operation, key), true)) ?? false;
  open.set(operation, { key, isInTab, content });
  return key;
}

/** @param {string} operation */
function close(operation) {
  open.delete(operation);
  inTab((tab) => tab.removeItem(PREFIX + operation));
}

/**
 * Uses the tab's storage, which outlives the page; where it is blocked or full, nothing.
 *
 * @template T
 * @param {(tab: Storage) => T} use
 */
function inTab(use) {
  try {
    return use(sessionStorage);
  } catch {
    return undefined;
  }
}

/** @param {string | URL} url @param {RequestInit} request @param {string} header @param {number} ms */
async function tryOnce(url, request, header, ms) {
  const alarm = new AbortController();
  const late = new DOMException("There was no answer in time.", "TimeoutError");
  const timer = setTimeout(() => alarm.abort(late), ms);
  const stop = () => alarm.abort(request.signal?.reason);
  request.signal?.addEventListener("abort", stop); // by hand: AbortSignal.any is missing here and there
  const attempt = { ...request, signal: alarm.signal };
  try {
    let answer = await fetch(url, attempt);
    const isOver = answer.headers.get(ENDED) === "true";
    const state = answer.headers.get(STATE);
    const target = answer.headers.get(LOCATION);
    // If the page behind it doesn't arrive, the answer counts as lost.
    if (target !== null) answer = await follow(new URL(target, answer.url), attempt, header);
    const text = await answer.clone().text(); // an answer that breaks off counts as lost
    const { code, retry } = problemIn(answer, text);
    return { answer, state, isOver, isInFlight: code === "in-flight", retry };
  } finally {
    clearTimeout(timer);
    request.signal?.removeEventListener("abort", stop);
  }
}

/** What `fetch` does with a redirect. @param {URL} url @param {RequestInit} attempt @param {string} header */
async function follow(url, { method, body, ...attempt }, header) {
  const headers = new Headers(attempt.headers);
  for (const name of [header, TELL_REDIRECT, ASK, "Content-Type"]) headers.delete(name);
  const answer = await fetch(url, { ...attempt, headers });
  return Object.defineProperty(answer, "redirected", { value: true });
}

/** @param {Response} answer @param {string} text @returns {{code?: unknown, retry?: unknown}} */
function problemIn(answer, text) {
  if (!answer.headers.get("Content-Type")?.startsWith("application/problem+json")) return {};
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

/** @param {Response | undefined} answer */
function retryAfterMs(answer) {
  const value = answer?.headers.get("Retry-After") ?? "";
  // By the clock of the server that wrote the date: the customer's may be wrong.
  const now = Date.parse(answer?.headers.get("Date") ?? "") || Date.now();
  const ms = /^\d+$/.test(value) ? 1000 * Number(value) : Date.parse(value) - now;
  return Math.max(0, ms || 0);
}

/** @param {AbortSignal | null | undefined} signal */
function throwIfAborted(signal) {
  if (signal?.aborted) throw signal.reason ?? new DOMException("It was stopped.", "AbortError");
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
