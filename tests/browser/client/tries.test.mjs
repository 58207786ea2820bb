/** How often, how long, and what stops it. */
import assert from "node:assert/strict";
import test from "node:test";
import { answer, eachTest, inFlight, lose, loseHalf, neverAnswer, ours, problem } from "./support.mjs";

const scene = eachTest();
const created = ours(201);

test("pauses grow up to a limit, with full jitter", async () => {
  scene.server.will(answer(500));
  await scene.buy("{}", { tries: 7 });
  // Three quarters of what they may be at most, as the chance of this clock will have it.
  assert.deepEqual(scene.clock.pauses, [750, 1500, 3000, 6000, 6000, 6000]);
});

test("Retry-After in seconds is waited for", async () => {
  scene.server.will(answer(503, { "Retry-After": "7" }), created);
  await scene.buy();
  assert.deepEqual(scene.clock.pauses, [7000]);
});

const HOUR_MS = 3_600_000;
for (const [clock, offMs] of [["right", 0], ["an hour slow", HOUR_MS], ["an hour fast", -HOUR_MS]]) {
  test(`Retry-After as a date is waited for where the customer's clock is ${clock}`, async () => {
    const at = (ms) => new Date(Date.now() + offMs + ms).toUTCString();
    scene.server.will(answer(503, { Date: at(0), "Retry-After": at(9000) }), created);
    await scene.buy();
    const [pause] = scene.clock.pauses;
    assert.ok(pause >= 8000 && pause <= 10_000, String(pause));
  });
}

test("Retry-After as a date is read by the customer's clock where the server's isn't shown", async () => {
  const act = (request, response) => {
    response.sendDate = false;
    answer(503, { "Retry-After": new Date(Date.now() + 9500).toUTCString() })(request, response);
  };
  scene.server.will(act, created);
  await scene.buy();
  const [pause] = scene.clock.pauses;
  assert.ok(pause > 5000 && pause <= 9500, String(pause));
});

test("long lease is looked at again, not slept through", async () => {
  const leased = problem(409, "in-flight", { "Retry-After": "600" });
  scene.server.will(leased, leased, created);
  assert.equal((await scene.buy()).status, 201);
  assert.deepEqual(scene.clock.pauses, [8000, 8000]);
});

test("Retry-After that is none does no harm", async () => {
  scene.server.will(answer(503, { "Retry-After": "soon" }), created);
  await scene.buy();
  assert.deepEqual(scene.clock.pauses, [750]);
});

test("operation in flight is asked for as often as the deadline allows (FR-115)", async () => {
  scene.server.will(...Array(20).fill(inFlight), created);
  assert.equal((await scene.buy()).status, 201);
  assert.deepEqual(scene.clock.pauses, Array(20).fill(1000));
});

test("last answer is returned after so many tries, and the key stays", async () => {
  scene.server.will(answer(500), answer(502));
  assert.equal((await scene.buy("{}", { tries: 3 })).status, 502);
  assert.equal(scene.server.requests.length, 3);
  assert.equal(scene.hasOpenOperation("pay"), true);
});

test("last error is thrown after so many tries, and the key stays", async () => {
  scene.server.will(answer(500), lose);
  await assert.rejects(scene.buy("{}", { tries: 2 }), TypeError);
  assert.equal(scene.server.requests.length, 2);
  assert.equal(scene.hasOpenOperation("pay"), true);
});

for (const [status, retry, times] of [
  [503, "same-key", 2],
  [425, "same-key", 2],
  [409, "same-key", 2],
  [503, "no", 1],
  [503, "new-key", 1],
  [409, "no", 1],
  // Not ours: by the status.
  [503, undefined, 2],
  [503, "later", 2],
  [503, true, 2],
  [409, undefined, 1],
  [425, "later", 1],
]) {
  test(`${status} whose problem says ${retry} is sent ${times} times`, async () => {
    scene.server.will(problem(status, "of-some-kind", {}, { retry }), created);
    await scene.buy();
    assert.equal(scene.server.requests.length, times);
    assert.equal(scene.server.differentKeys.length, 1);
  });
}

test("what isn't a problem document says nothing by its members", async () => {
  scene.server.will(answer(503, {}, '{"retry": "no"}'), created);
  await scene.buy();
  assert.equal(scene.server.requests.length, 2);
});

test("pause that would go past the deadline is not made", async () => {
  scene.server.will(answer(503, { "Retry-After": "31" }));
  assert.equal((await scene.buy("{}", { deadlineMs: 70_000 })).status, 503);
  assert.deepEqual(scene.clock.pauses, [31_000, 31_000]);
  assert.equal(scene.server.requests.length, 3);
  assert.equal(scene.hasOpenOperation("pay"), true);
});

test("last try takes no longer than the deadline", async () => {
  scene.server.will(answer(503, { "Retry-After": "31" }), neverAnswer);
  const began = performance.now();
  await assert.rejects(scene.buy("{}", { deadlineMs: 31_200 }), { name: "TimeoutError" });
  const took = performance.now() - began;
  assert.ok(took >= 31_200 && took < 31_200 + 20_000, String(took));
});

test("half an answer is a lost one", async () => {
  scene.server.will(loseHalf, created);
  assert.equal((await scene.buy()).status, 201);
  assert.equal(scene.server.differentKeys.length, 1);
  assert.equal(scene.server.requests.length, 2);
});

test("try that gets no answer in time is a lost one", async () => {
  scene.server.will(neverAnswer, created);
  assert.equal((await scene.buy("{}", { tryMs: 50 })).status, 201);
  assert.equal(scene.server.differentKeys.length, 1);
});

test("caller that aborts a try stops all of it, and the key stays", async () => {
  const stop = new AbortController();
  scene.server.will(() => stop.abort(new Error("left")));
  await assert.rejects(scene.buy("{}", {}, { signal: stop.signal }), /left/);
  assert.equal(scene.server.requests.length, 1);
  assert.deepEqual(scene.clock.pauses, []);
  assert.equal(scene.hasOpenOperation("pay"), true);
});

test("old browser without AbortSignal.any and throwIfAborted does all of that", async () => {
  const { any } = AbortSignal;
  const { throwIfAborted } = AbortSignal.prototype;
  delete AbortSignal.any;
  delete AbortSignal.prototype.throwIfAborted;
  try {
    const stop = new AbortController();
    scene.server.will(lose, created);
    assert.equal((await scene.buy("{}", {}, { signal: stop.signal })).status, 201);
    assert.equal(scene.server.requests.length, 2);
    scene.server.will(() => stop.abort(new Error("left")));
    await assert.rejects(scene.buy("{}", {}, { signal: stop.signal }), /left/);
    assert.equal(scene.server.requests.length, 1);
  } finally {
    Object.assign(AbortSignal, { any });
    Object.assign(AbortSignal.prototype, { throwIfAborted });
  }
});

test("caller that aborts a pause stops all of it, and the key stays", async () => {
  const stop = new AbortController();
  const { setTimeout } = globalThis;
  globalThis.setTimeout = (call, ms, ...rest) => {
    if (ms !== 7000) return setTimeout(call, ms, ...rest);
    queueMicrotask(() => stop.abort(new Error("left")));
    return 0;
  };
  scene.server.will(answer(503, { "Retry-After": "7" }));
  await assert.rejects(scene.buy("{}", {}, { signal: stop.signal }), /left/);
  globalThis.setTimeout = setTimeout;
  assert.equal(scene.server.requests.length, 1);
  assert.equal(scene.hasOpenOperation("pay"), true);
});

test("caller that has aborted already sends nothing and begins nothing", async () => {
  scene.server.will(created);
  await assert.rejects(scene.buy("{}", {}, { signal: AbortSignal.abort(new Error("left")) }), /left/);
  assert.equal(scene.server.requests.length, 0);
  assert.equal(scene.hasOpenOperation("pay"), false);
});

const stream = () => new ReadableStream();
for (const [name, call, message] of [
  ["stream as the body", () => scene.buy(stream(), {}, { duplex: "half" }), /not a stream/],
  ["Request", () => scene.idempotentFetch(new Request(scene.server.url), {}, { operation: "pay" }), /not a Request/],
  ["operation without a name", () => scene.buy("{}", { operation: "" }), /Name the operation/],
  ["body of a GET", () => scene.buy("{}", {}, { method: "GET" }), /GET/],
  ["redirect that isn't followed", () => scene.buy("{}", {}, { redirect: "manual" }), /redirect: "manual"/],
  ["mode that drops the key", () => scene.buy("{}", {}, { mode: "no-cors" }), /"no-cors"/],
  ["header with a space", () => scene.buy("{}", {}, { headers: { "a b": "c" } }), /header/i],
  ["URL without a host", () => scene.idempotentFetch("http://", {}, { operation: "pay" }), /URL/i],
]) {
  test(`${name} is refused at once`, async () => {
    scene.server.will(created);
    await assert.rejects(call(), (error) => error instanceof TypeError && message.test(error.message));
    assert.equal(scene.server.requests.length, 0);
    assert.deepEqual(scene.clock.pauses, []);
    assert.equal(scene.hasOpenOperation("pay"), false);
  });
}

test("method is POST unless another one is given", async () => {
  scene.server.will(created);
  await scene.buy();
  await scene.buy('{"cart": 2}', {}, { method: "PUT" });
  assert.deepEqual(scene.server.requests.map((each) => each.method), ["POST", "PUT"]);
});
