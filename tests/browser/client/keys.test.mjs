/** When a key is made, when it is used again, and when never. */
import assert from "node:assert/strict";
import { File } from "node:buffer";
import test from "node:test";
import { eachTest, loadPage, lose, ours, problem, setGlobal, UUID4 } from "./support.mjs";

const scene = eachTest();
const created = ours(201);
const declined = ours(402);
const mismatch = ours(422);

test("key is a random UUID", async () => {
  scene.server.will(created);
  await scene.buy();
  assert.match(scene.server.keys[0], UUID4);
});

test("key is a random UUID where the page is not secure", async () => {
  const secure = globalThis.crypto;
  setGlobal("crypto", { getRandomValues: (bytes) => secure.getRandomValues(bytes) });
  scene.server.will(created);
  for (let number = 0; number < 20; number++) await scene.buy(`{"cart": ${number}}`);
  setGlobal("crypto", secure);
  assert.equal(scene.server.differentKeys.length, 20);
  for (const key of scene.server.keys) assert.match(key, UUID4);
});

test("reload after a lost answer sends the same key (FR-113)", async () => {
  scene.server.will(lose);
  await assert.rejects(scene.buy("{}", { tries: 1 }));
  const [key] = scene.server.keys;

  const page = await loadPage();
  assert.equal(page.hasOpenOperation("pay"), true);
  scene.server.will(created);
  await page.idempotentFetch(scene.server.url, { body: "{}" }, { operation: "pay" });
  assert.deepEqual(scene.server.keys, [key]);
  assert.equal(page.hasOpenOperation("pay"), false);
});

test("edited cart takes a new key once the first has its answer (FR-113)", async () => {
  scene.server.will(lose, created);
  await scene.buy('{"cart": 1}');
  await scene.buy('{"cart": 2}');
  assert.equal(scene.server.differentKeys.length, 2);
  assert.equal(scene.server.keys[0], scene.server.keys[1]);
});

test("cart edited while the outcome is unknown goes out under the same key", async () => {
  scene.server.will(lose);
  await assert.rejects(scene.buy('{"cart": 1}', { tries: 1 }));
  const [key] = scene.server.keys;
  scene.server.will(mismatch);
  const refused = await scene.buy('{"cart": 2}');
  assert.equal(refused.status, 422);
  assert.deepEqual(scene.server.keys, [key]);
});

test("customer who means it confirms under the key that was refused", async () => {
  scene.server.will(problem(409, "possible-duplicate"));
  assert.equal((await scene.buy("{}")).status, 409);
  const [key] = scene.server.keys;
  scene.server.will(created);
  const headers = { "Idempotency-Confirm": "A7C1-11BF" };
  await scene.buy("{}", {}, { headers });
  const [sent] = scene.server.requests;
  assert.deepEqual([sent.headers["idempotency-key"], sent.headers["idempotency-confirm"]], [key, "A7C1-11BF"]);
});

test("press after a mismatch takes a new key", async () => {
  scene.server.will(mismatch, created);
  await scene.buy();
  scene.clock.doubleClickIsOver();
  await scene.buy();
  assert.equal(scene.server.differentKeys.length, 2);
});

test("name with the version of the cart makes an edited cart an operation of its own", async () => {
  scene.server.will(lose);
  await assert.rejects(scene.buy("{}", { operation: "pay 7 v1", tries: 1 }));
  const [key] = scene.server.keys;
  scene.server.will(created);
  await scene.buy("{}", { operation: "pay 7 v2" });
  assert.notEqual(scene.server.keys[0], key);
});

test("next purchase takes a new key", async () => {
  scene.server.will(created);
  await scene.buy();
  scene.clock.doubleClickIsOver();
  await scene.buy();
  assert.equal(scene.server.differentKeys.length, 2);
});

test("another card after a decline takes a new key", async () => {
  scene.server.will(declined);
  await scene.buy('{"card": "a"}');
  await scene.buy('{"card": "b"}');
  assert.equal(scene.server.differentKeys.length, 2);
});

test("two clicks before the answer share a key", async () => {
  scene.server.will(created);
  await Promise.all([scene.buy(), scene.buy()]);
  assert.equal(scene.server.requests.length, 2);
  assert.equal(scene.server.differentKeys.length, 1);
});

const forms = () => {
  const form = new FormData();
  form.set("cart", "7");
  form.set("file", new File(["a"], "a.txt", { lastModified: 0 }));
  return form;
};
for (const [kind, body] of [
  ["JSON", () => '{"cart": 7}'],
  ["a form", () => new URLSearchParams({ cart: "7" })],
  ["a form with files", forms],
  ["no body", () => undefined],
]) {
  test(`second click just after the answer shares the key, with ${kind}`, async () => {
    for (const status of [created, declined]) {
      scene.server.will(status);
      await scene.buy(body());
      await scene.buy(body());
      assert.equal(scene.server.differentKeys.length, 1);
      scene.clock.doubleClickIsOver();
    }
  });
}

test("second click leaves no key for the next page", async () => {
  scene.server.will(created);
  await scene.buy();
  scene.server.will(lose);
  await assert.rejects(scene.buy("{}", { tries: 1 }));
  assert.equal(scene.hasOpenOperation("pay"), false);
});

test("late answer does not end the operation that came after it", async () => {
  let arrive;
  const arrived = new Promise((resolve) => (arrive = resolve));
  let send;
  scene.server.will(
    (request, response) => ((send = () => created(request, response)), arrive()),
    created,
    lose,
  );
  const late = scene.buy();
  await arrived;
  await scene.buy(); // ends the operation
  await assert.rejects(scene.buy('{"cart": 2}', { tries: 1 }));
  send();
  await late;
  assert.equal(scene.hasOpenOperation("pay"), true);
});

test("operations of different names don't share keys", async () => {
  scene.server.will(lose);
  for (const operation of ["pay", "refund"]) {
    await assert.rejects(scene.buy("{}", { operation, tries: 1 }));
  }
  assert.equal(scene.server.differentKeys.length, 2);
});

test("operation that is forgotten gets a new key", async () => {
  scene.server.will(lose);
  await assert.rejects(scene.buy("{}", { tries: 1 }));
  const [key] = scene.server.keys;
  scene.forgetOperation("pay");
  assert.equal(scene.hasOpenOperation("pay"), false);
  scene.server.will(created);
  await scene.buy();
  assert.notEqual(scene.server.keys[0], key);
});

test("operation that has just ended can be forgotten", async () => {
  scene.server.will(created);
  await scene.buy();
  scene.forgetOperation("pay");
  await scene.buy();
  assert.equal(scene.server.differentKeys.length, 2);
});

test("key is remembered by the page where storage is blocked", async () => {
  setGlobal("sessionStorage", undefined);
  scene.server.will(lose);
  await assert.rejects(scene.buy("{}", { tries: 1 }));
  const [key] = scene.server.keys;
  assert.equal(scene.hasOpenOperation("pay"), true);
  scene.server.will(created);
  await scene.buy();
  assert.deepEqual(scene.server.keys, [key]);
  assert.equal(scene.hasOpenOperation("pay"), false);
});

test("page from the browser's cache doesn't send the key that a later page has used up", async () => {
  let show;
  globalThis.addEventListener = (name, listener) => name === "pageshow" && (show = listener);
  const first = await loadPage();
  delete globalThis.addEventListener;
  const buy = (page) => page.idempotentFetch(scene.server.url, { body: "{}" }, { operation: "pay", tries: 1 });
  scene.server.will(lose);
  await assert.rejects(buy(first));
  const [key] = scene.server.keys;
  scene.server.will(created);
  await buy(await loadPage());
  assert.deepEqual(scene.server.keys, [key]);
  show({ persisted: true });
  assert.equal(first.hasOpenOperation("pay"), false);
  await buy(first);
  assert.notEqual(scene.server.keys[1], key);
});

test("name of the header can be another one", async () => {
  scene.server.will(created);
  await scene.buy("{}", { header: "X-Once" });
  assert.match(scene.server.requests[0].headers["x-once"], UUID4);
  assert.deepEqual(scene.server.keys, [undefined]);
});
