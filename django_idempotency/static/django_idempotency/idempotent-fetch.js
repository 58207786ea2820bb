// @ts-check
/**
 * Sends what must not be done twice. An attempt of a customer has one key, on every try
 * and over reloads of the page, until an answer ends the attempt.
 *
 * Which answer does, and why, is on the documentation's page "Send a key from a browser".
 */

const PREFIX = "django-idempotency:";
const DOUBLE_CLICK_MS = 2000;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 8000;

// They come from what stands before the view, or are no outcome: of an earlier try, whose
// answer was lost, they say nothing.
const SAYS_NOTHING = new Set([401, 403, 405, 406, 408, 413, 415, 425, 429]);

// It is being done, may have been done, or was done: a new key would do it once more.
const KEEPS_KEY = new Set(["in-flight", "outcome-unknown", "answer-unavailable"]);

/** @type {Map<string, string>} Where the browser has no storage for us. */
const memory = new Map();

/** @type {Map<string, {key: string, content: unknown}>} */
const justEnded = new Map();

/**
 * @typedef {object} IdempotentOptions
 * @property {string} attempt What the customer is about to do, as in `pay cart 7`. Calls
 *   of one name are one attempt.
 * @property {string} [header] The setting IDEMPOTENCY_HEADER; by default `Idempotency-Key`.
 * @property {number} [tries] How many may fail, by the network or with 5xx; 6.
 * @property {number} [tryMs] How long one try may take, its answer included; 30,000.
 * @property {number} [deadlineMs] How long all of it may take; 90,000.
 */

/**
 * Like `fetch`, POST by default, with one key for each attempt: tries again after lost
 * answers, 5xx and 409 `in-flight`, and after nothing else.
 *
 * Returns the last answer, or throws what the last `fetch` has thrown. Unless an answer
 * has ended the attempt, the next call of its name sends the same key.
 *
 * @param {string | URL} url
 * @param {RequestInit} init Its `signal` stops the tries, and leaves the attempt open.
 * @param {IdempotentOptions} options
 * @returns {Promise<Response>}
 */
export async function idempotentFetch(url, init, options) {
  const { attempt, header = "Idempotency-Key" } = options;
  const { tries = 6, tryMs = 30_000, deadlineMs = 90_000 } = options;
  const sendable = typeof url === "string" || url instanceof URL;
  if (!sendable || init.body instanceof ReadableStream) {
    throw new TypeError("Give an address and a body that can be sent again, no stream and no Request.");
  }
  if (!attempt) throw new TypeError("Name the attempt, as in { attempt: `pay cart ${cart.id}` }.");
  const headers = new Headers(init.headers);
  const request = { method: "POST", ...init, headers };
  new Request(url, request); // A mistake in it is no lost answer.
  init.signal?.throwIfAborted();

  let { key, isOpen } = begin(attempt, init.body); // in the same moment as the click
  headers.set(header, key);
  // Where a page is preferred, refusals still have to come with their code.
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
      if (isFinal) end(attempt, key, init.body);
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
 * Whether it isn't known what became of this attempt: its answer was lost, or the page
 * was left before it came.
 *
 * @param {string} attempt
 */
export function hasOpenAttempt(attempt) {
  return storage().getItem(PREFIX + attempt) !== null;
}

/**
 * Let the next call be a new attempt, when it was found out in another way what became of
 * this one.
 *
 * @param {string} attempt
 */
export function forgetAttempt(attempt) {
  justEnded.delete(attempt);
  storage().removeItem(PREFIX + attempt);
}

/** @param {string} attempt @param {unknown} body */
function begin(attempt, body) {
  const open = storage().getItem(PREFIX + attempt);
  if (open !== null) return { key: open, isOpen: true };
  // The second click of a double click may come after the answer to the first.
  const ended = justEnded.get(attempt);
  if (ended && ended.content === contentOf(body)) return { key: ended.key, isOpen: false };
  const key = newKey();
  storage().setItem(PREFIX + attempt, key);
  return { key, isOpen: false };
}

/** @param {string} attempt @param {string} key @param {unknown} body */
function end(attempt, key, body) {
  const ended = { key, content: contentOf(body) };
  justEnded.set(attempt, ended);
  setTimeout(() => justEnded.get(attempt) === ended && justEnded.delete(attempt), DOUBLE_CLICK_MS);
  if (storage().getItem(PREFIX + attempt) === key) storage().removeItem(PREFIX + attempt);
}

/** @param {string | URL} url @param {RequestInit} request @param {number} ms */
async function tryOnce(url, request, ms) {
  const alarm = new AbortController();
  const late = new DOMException("There was no answer in time.", "TimeoutError");
  const timer = setTimeout(() => alarm.abort(late), ms);
  const signals = request.signal ? [request.signal, alarm.signal] : [alarm.signal];
  try {
    const answer = await fetch(url, { ...request, signal: AbortSignal.any(signals) });
    const text = await answer.clone().text(); // Half an answer is a lost one.
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
  // Django leads whoever has to sign in to a page that is told where to come back to.
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

/** @param {number} failures Full jitter: clients that failed together come back apart. */
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

/** @param {unknown} body What tells one from another, while this page is open. */
function contentOf(body) {
  if (body instanceof URLSearchParams) return String(body);
  if (!(body instanceof FormData)) return body;
  const fields = [...body].map(([name, value]) =>
    typeof value === "string" ? [name, value] : [name, value.name, value.size, value.lastModified],
  );
  return JSON.stringify(fields);
}

/** Only secure pages have `randomUUID`. */
function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] % 16) + 0x40; // version 4
  bytes[8] = (bytes[8] % 64) + 0x80; // of RFC 9562
  const digits = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** The tab's, or the page's where that is blocked or full. */
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
