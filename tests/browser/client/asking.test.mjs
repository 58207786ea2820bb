/** What is asked after a lost answer, and what after a reload. */
import assert from "node:assert/strict";
import test from "node:test";
import { answer, eachTest, lose, loseHalf, ours, problem, setGlobal, UUID4 } from "./support.mjs";

const scene = eachTest();

const told = (state, act) => (request, response) => {
  response.setHeader("Idempotency-State", state);
  act(request, response);
};
const done = told("done", ours(201, { "Idempotency-Replayed": "true" }, '{"order": 7}'));
const running = told("running", problem(409, "in-flight", { "Retry-After": "1" }));
const held = told("held", problem(409, "outcome-unknown"));
const gone = told("gone", problem(409, "answer-unavailable"));
const unknown = told("unknown", problem(404, "operation-unknown"));
const unfinished = told("unfinished", problem(409, "unfinished"));

const HEADERS = { headers: { "Content-Type": "application/json", "X-CSRFToken": "t" } };
const methods = () => scene.server.requests.map((each) => each.method);
const ask = (options) => scene.askOutcome(scene.server.url, HEADERS, { operation: "pay", ...options });

for (const [name, lost] of [
  ["a lost answer", lose],
  ["half an answer", loseHalf],
  ["502", answer(502)],
  ["409 in-flight", problem(409, "in-flight", { "Retry-After": "1" })],
]) {
  test(`after ${name} the outcome is asked for, and nothing is sent again`, async () => {
    scene.server.will(lost, running, done);
    const told = await scene.buy('{"cart": 1}', { ask: true }, HEADERS);
    assert.deepEqual(await told.json(), { order: 7 });
    assert.deepEqual(methods(), ["POST", "GET", "GET"]);
    assert.equal(scene.server.differentKeys.length, 1);
    for (const { headers, body } of scene.server.requests.slice(1)) {
      assert.deepEqual([headers["idempotency-ask"], headers["x-csrftoken"], body], ["POST", "t", ""]);
      assert.ok(!("content-type" in headers));
    }
    assert.equal(scene.hasOpenOperation("pay"), false);
  });

  test(`after ${name} it is sent again where nobody says that it can be asked`, async () => {
    scene.server.will(lost, ours(201));
    await scene.buy();
    assert.deepEqual(methods(), ["POST", "POST"]);
  });
}

// What doesn't say that it is done or under way, whoever says it.
for (const [name, nothing] of Object.entries({
  unknown,
  unfinished,
  "any page": answer(200, {}, "A page"),
  "a sign-in page": answer(403),
  "503 state-unavailable": problem(503, "state-unavailable", { "Retry-After": "1" }),
  "404 of a proxy": answer(404),
  "a lost question": lose,
  "a state that nobody knows": told("new", answer(200)),
})) {
  test(`what was asked in vain is sent with the same key and body: ${name}`, async () => {
    scene.server.will(lose, nothing, ours(201));
    assert.equal((await scene.buy('{"cart": 1}', { ask: true })).status, 201);
    assert.deepEqual(methods(), ["POST", "GET", "POST"]);
    assert.equal(scene.server.differentKeys.length, 1);
    assert.equal(scene.server.requests[2].body, '{"cart": 1}');
  });

  test(`nothing is sent for ever: ${name}`, async () => {
    let number = 0;
    scene.server.will((...exchange) => (number++ % 2 ? nothing : lose)(...exchange));
    await assert.rejects(scene.buy("{}", { ask: true, tries: 4 }));
    assert.ok(methods().length <= 8);
    assert.equal(scene.hasOpenOperation("pay"), true);
  });
}

for (const [name, act, code] of [["held", held, "outcome-unknown"], ["gone", gone, "answer-unavailable"]]) {
  test(`${name} is an answer, and the operation stays open`, async () => {
    scene.server.will(lose, act);
    assert.equal((await (await scene.buy("{}", { ask: true })).json()).code, code);
    assert.deepEqual(methods(), ["POST", "GET"]);
    assert.equal(scene.hasOpenOperation("pay"), true);
  });
}

/** What becomes of the page and of the cart between a lost press and the next one. */
const reload = () => scene.load();
const stay = () => {};
for (const [name, bodies, between, asked] of [
  ["the same cart", ["a", "a"], stay, true],
  ["another cart", ["a", "b"], stay, false],
  ["the first cart after another", ["a", "b", "a"], stay, false],
  ["the same cart, as far as the new page knows", ["a", "a"], reload, false],
]) {
  test(`answer to what was sent is never taken for that to another cart: ${name}`, async () => {
    for (const body of bodies.slice(0, -1)) {
      scene.server.will(lose);
      await scene.buy(body, { tries: 1 }).catch(stay);
      await between();
    }
    scene.server.will(lose, (request, response) => (request.method === "GET" ? done : ours(422))(request, response));
    const { status } = await scene.buy(bodies.at(-1), { ask: true });
    assert.deepEqual([methods()[1], status], asked ? ["GET", 201] : ["POST", 422]);
  });
}

test("page that was loaded again asks without the content, and the answer ends it", async () => {
  scene.server.will(lose);
  await scene.buy("{}", { tries: 1 }).catch(stay);
  const [key] = scene.server.keys;
  await scene.load();
  scene.server.will(done);
  const { state, answer } = await ask();
  assert.deepEqual([state, answer.status, await answer.json()], ["done", 201, { order: 7 }]);
  assert.deepEqual(scene.server.keys, [key]);
  assert.match(key, UUID4);
  assert.equal(scene.hasOpenOperation("pay"), false);
});

for (const [state, act] of Object.entries({ running, held, gone, unknown, unfinished, null: answer(403) })) {
  test(`${state} leaves the operation open, and the next press sends its key`, async () => {
    scene.server.will(lose);
    await scene.buy("{}", { tries: 1 }).catch(stay);
    const [key] = scene.server.keys;
    scene.server.will(act);
    assert.equal(String((await ask()).state), state);
    scene.server.will(ours(201));
    await scene.buy();
    assert.deepEqual(scene.server.keys, [key]);
  });
}

for (const [name, between, keys] of [
  ["at once", stay, 1],
  ["later", () => scene.clock.doubleClickIsOver(), 2],
]) {
  test(`press ${name} after a question that has ended the operation has ${keys} key(s)`, async () => {
    scene.server.will(lose);
    await scene.buy("{}", { tries: 1 }).catch(stay);
    await scene.load();
    scene.server.will(done);
    await ask();
    between();
    await scene.buy();
    assert.equal(scene.server.differentKeys.length, keys);
  });
}

test("double click while it is asked sends one key, although the question ends it in between", async () => {
  scene.server.will(lose);
  await scene.buy("{}", { tries: 1 }).catch(stay);
  await scene.load();
  scene.server.will(ours(201), done);
  const first = scene.buy();
  await ask();
  await Promise.all([first, scene.buy()]);
  assert.equal(scene.server.differentKeys.length, 1);
});

test("nothing is asked where nothing is open", async () => {
  scene.server.will(done);
  assert.equal(await ask(), null);
  assert.equal(scene.server.requests.length, 0);
});

test("lost question throws, and the operation stays open", async () => {
  scene.server.will(lose);
  await scene.buy("{}", { tries: 1 }).catch(stay);
  await assert.rejects(ask(), TypeError);
  assert.equal(scene.hasOpenOperation("pay"), true);
});

test("question names the method and the header that the site has chosen", async () => {
  scene.server.will(lose);
  await scene.buy("{}", { tries: 1, header: "X-Key" }, { method: "put" }).catch(stay);
  scene.server.will(done);
  await scene.askOutcome(scene.server.url, { method: "put" }, { operation: "pay", header: "X-Key" });
  const { headers } = scene.server.requests[0];
  assert.deepEqual([headers["idempotency-ask"], UUID4.test(headers["x-key"])], ["PUT", true]);
});

test("redirect that was the first answer is followed, and what is asked isn't sent on", async () => {
  setGlobal("location", new URL(scene.server.url));
  scene.server.will(lose, told("done", ours(204, { "Idempotency-Location": "/orders/7/" }, "")), answer(200, {}, "Thanks"));
  const page = await scene.buy("{}", { ask: true });
  assert.deepEqual([await page.text(), page.redirected], ["Thanks", true]);
  const { headers } = scene.server.requests[2];
  for (const name of ["idempotency-ask", "idempotency-key"]) assert.ok(!(name in headers));
  assert.equal(scene.hasOpenOperation("pay"), false);
});

test("nothing is sent after it was stopped while asking", async () => {
  const stop = new AbortController();
  scene.server.will(lose, (request, response) => (stop.abort(), unknown(request, response)));
  await assert.rejects(scene.buy("{}", { ask: true }, { signal: stop.signal }), { name: "AbortError" });
  assert.deepEqual(methods(), ["POST", "GET"]);
});

test("name is required to ask", async () => {
  await assert.rejects(ask({ operation: "" }), TypeError);
});
