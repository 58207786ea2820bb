/** What the tests in Node share: a page that can be reloaded, a server that can fail. */
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { webcrypto } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, beforeEach } from "node:test";
import { pathToFileURL } from "node:url";

const FILE = "../../../django_idempotency/static/django_idempotency/idempotent-fetch.js";

// Node takes .js for an older kind of module.
const folder = mkdtempSync(join(tmpdir(), "idempotent-fetch-"));
const copy = join(folder, "idempotent-fetch.mjs");
copyFileSync(new URL(FILE, import.meta.url), copy);
process.on("exit", () => rmSync(folder, { recursive: true }));

globalThis.crypto ??= webcrypto; // Node 18 hides it

/** A tab's storage, which a reload leaves as it is. */
class Tab {
  isFull = false;
  #items = new Map();
  getItem = (name) => this.#items.get(name) ?? null;
  setItem = (name, value) => {
    if (this.isFull) throw new DOMException("full", "QuotaExceededError");
    this.#items.set(name, String(value));
  };
  removeItem = (name) => void this.#items.delete(name);
  clear = () => this.#items.clear();
}

export function openTab() {
  setGlobal("sessionStorage", new Tab());
}

export function setGlobal(name, value) {
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}

let pages = 0;

/** The library as a page has it that was just loaded. */
export function loadPage() {
  return import(`${pathToFileURL(copy)}?page=${++pages}`);
}

export const UUID4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** What a server does with one request; an `answer` could be anybody's. */
export const answer = (status, headers = {}, body = "{}") => (request, response) => {
  response.writeHead(status, { "Content-Type": "application/json", ...headers });
  response.end(body);
};
/** An answer of the view's, after which the key is used up. */
export const ours = (status, headers = {}, body) =>
  answer(status, { "Idempotency-Ended": "true", ...headers }, body);
export const problem = (status, code, headers = {}, members = {}) =>
  answer(
    status,
    { "Content-Type": "application/problem+json", ...headers },
    JSON.stringify({ code, ...members }),
  );
export const inFlight = problem(409, "in-flight", { "Retry-After": "1" });
export const lose = (request) => request.socket.destroy();
export const loseHalf = (request, response) => {
  response.writeHead(201, { "Content-Length": "1000" });
  response.write("{");
  setImmediate(() => request.socket.destroy());
};
export const neverAnswer = () => {};

/** A server that does one thing after the other, the last one from then on. */
export class Server {
  requests = [];
  #acts = [];
  #server = createServer((request, response) => this.#receive(request, response));

  static async start() {
    const server = new Server();
    await new Promise((listening) => server.#server.listen(0, "127.0.0.1", listening));
    server.url = `http://127.0.0.1:${server.#server.address().port}/orders/`;
    return server;
  }

  stop() {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  will(...acts) {
    this.requests = [];
    this.#acts = acts;
  }

  get keys() {
    return this.requests.map((request) => request.headers["idempotency-key"]);
  }

  get differentKeys() {
    return [...new Set(this.keys)];
  }

  async #receive(request, response) {
    let body = "";
    for await (const chunk of request) body += chunk;
    this.requests.push({ method: request.method, headers: request.headers, body });
    const act = this.#acts.length > 1 ? this.#acts.shift() : this.#acts[0];
    act(request, response);
  }
}

/** The library's time passes at once: pauses are written down, a double click ends when told. */
export class Clock {
  pauses = [];
  #ends = [];
  #setTimeout = globalThis.setTimeout;
  #now = performance.now.bind(performance);
  #random = Math.random;
  #passed = 0;

  start() {
    globalThis.setTimeout = (call, ms, ...rest) => {
      const { stack } = new Error();
      if (stack.includes(" pause ")) {
        this.pauses.push(ms);
        this.#passed += ms;
        return this.#setTimeout(call, 0);
      }
      if (stack.includes(" end ")) return this.#ends.push(call);
      return this.#setTimeout(call, ms, ...rest); // the alarm of a try, and Node's own
    };
    const now = () => this.#now() + this.#passed;
    Object.defineProperty(performance, "now", { value: now, configurable: true });
    Math.random = () => 0.75;
  }

  stop() {
    globalThis.setTimeout = this.#setTimeout;
    delete performance.now;
    Math.random = this.#random;
  }

  doubleClickIsOver() {
    for (const end of this.#ends.splice(0)) end();
  }
}

/** Give every test of a file a new tab, a new page, a new clock and the one server. */
export function eachTest() {
  const scene = {};
  const started = Server.start();
  beforeEach(async () => {
    openTab();
    scene.server = await started;
    scene.clock = new Clock();
    scene.warnings = [];
    console.warn = (...words) => void scene.warnings.push(words);
    setGlobal("location", undefined);
    scene.load = async () => Object.assign(scene, await loadPage());
    await scene.load();
    scene.clock.start();
    scene.buy = (body = "{}", options = {}, init = {}) =>
      scene.idempotentFetch(scene.server.url, { body, ...init }, { operation: "pay", ...options });
  });
  afterEach(() => scene.clock.stop());
  after(async () => (await started).stop());
  return scene;
}
