/** Which answers are tried again, and that only one of ours ends the operation. */
import assert from "node:assert/strict";
import test from "node:test";
import { answer, eachTest, inFlight, lose, loseHalf, ours, problem, setGlobal } from "./support.mjs";

const scene = eachTest();

const PROBLEM = { "Content-Type": "application/problem+json" };
const mismatch = ours(422, PROBLEM, JSON.stringify({ code: "key-reused" }));

/** A redirect, and what is behind it; neither says who has sent it. */
const redirect = (status, location, behind = answer(200, {}, "A page")) => (request, response) =>
  (request.method === "POST" ? answer(status, { Location: location }) : behind)(request, response);

// Of the view, or of anything between it and the page: nobody can tell.
const STAYS = Object.entries({
  "a lost answer": lose,
  "half an answer": loseHalf,
  // And 421, which a fetch itself sends again on another connection, so not countable here.
  ...Object.fromEntries(
    [200, 201, 204, 304, 400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 413, 415, 422, 423, 424, 425, 429]
      .concat([431, 451, 500, 502, 503, 504, 520])
      .map((status) => [String(status), answer(status)]),
  ),
  "409 in-flight": inFlight,
  "409 outcome-unknown": problem(409, "outcome-unknown"),
  "409 answer-unavailable": problem(409, "answer-unavailable"),
  "400 key-missing": problem(400, "key-missing"),
  "503 store-unavailable": problem(503, "store-unavailable"),
  "a broken problem": answer(409, PROBLEM, "{"),
  "a problem that is null": answer(409, PROBLEM, "null"),
  "a sign-in page": redirect(302, "/login/?next=/orders/"),
  "a sign-in page behind a proxy that strips a prefix": redirect(302, "/app/login/?next=/stripped/"),
  "a sign-in page with another parameter": redirect(302, "/sso?return_to=%2Forders%2F"),
  "a page for accepting new terms": redirect(303, "/terms/"),
  "a mark that isn't true": answer(200, { "Idempotency-Ended": "?0" }),
});
const ENDS = Object.entries({
  "200": ours(200),
  "201": ours(201),
  "204": ours(204, {}, ""),
  "402": ours(402),
  "404": ours(404),
  "409": ours(409),
  "410": ours(410),
  "a kept 500": ours(500),
  "422 key-reused": mismatch,
});

// What becomes of the tab's storage between two presses, and whether a reload at once
// finds what the first press has left there.
const STORAGES = [
  ["stays", true, () => {}, () => {}],
  ["fills up", true, () => {}, () => (sessionStorage.isFull = true)],
  ["is freed", false, () => (sessionStorage.isFull = true), () => (sessionStorage.isFull = false)],
  ["is cleared", false, () => {}, () => sessionStorage.clear()],
];

const stay = () => {};
const reload = () => scene.load();

/** The keys of three presses, the last of which gets an answer of ours. */
async function keysOf(act, before, change, after) {
  const keys = [];
  for (const [act_, between] of [[act, before], [act, after], [ours(201), stay]]) {
    scene.server.will(act_);
    await scene.buy("{}", { tries: 1, deadlineMs: 2500 }).catch(() => {});
    keys.push(...scene.server.keys.filter(Boolean));
    if (between === before) change();
    await between();
  }
  return keys;
}

for (const [name, act] of STAYS) {
  for (const [storage, outlives, begin, change] of STORAGES) {
    for (const [navigation, before, after] of [
      ["pressing again", stay, stay],
      ["a reload after the second press", stay, reload],
      ...(outlives ? [["a reload after the first press", reload, stay]] : []),
    ]) {
      test(`${name}, storage that ${storage}, ${navigation}: one key until an answer of ours`, async () => {
        begin();
        const keys = await keysOf(act, before, change, after);
        assert.equal(new Set(keys).size, 1);
        assert.equal(scene.hasOpenOperation("pay"), false);
        scene.clock.doubleClickIsOver();
        scene.server.will(ours(201));
        await scene.buy();
        assert.ok(!keys.includes(scene.server.keys[0]));
      });
    }
  }
}

for (const [name, act] of ENDS) {
  for (const [when, first] of [["at first", []], ["after a lost one", [lose]], ["after a strange one", [answer(404)]]]) {
    test(`${name} of ours ends the operation, ${when}, and is not tried again`, async () => {
      for (const each of first) {
        scene.server.will(each);
        await scene.buy("{}", { tries: 1 }).catch(() => {});
      }
      scene.server.will(act);
      await scene.buy();
      assert.equal(scene.server.requests.length, 1);
      assert.equal(scene.hasOpenOperation("pay"), false);
    });
  }
}

const AGAIN = Object.entries({
  "a lost answer": lose,
  "500": answer(500),
  "502": answer(502),
  "503 store-unavailable": problem(503, "store-unavailable", { "Retry-After": "1" }),
  "504": answer(504),
  "409 in-flight": inFlight,
});
const KINDS = new Map(STAYS);

for (const [name, failure] of AGAIN) {
  test(`${name} is tried again with the same key and the same body`, async () => {
    scene.server.will(failure, failure, ours(201));
    assert.equal((await scene.buy('{"cart": 7}')).status, 201);
    assert.equal(scene.server.requests.length, 3);
    assert.equal(scene.server.differentKeys.length, 1);
    assert.deepEqual(scene.server.requests.map((each) => each.body), Array(3).fill('{"cart": 7}'));
    assert.equal(scene.hasOpenOperation("pay"), false);
  });
}

for (const name of ["401", "403", "404", "429", "409 outcome-unknown", "409 answer-unavailable", "200"]) {
  test(`${name} is not tried again by itself`, async () => {
    scene.server.will(KINDS.get(name));
    await scene.buy();
    assert.equal(scene.server.requests.length, 1);
    assert.equal(scene.hasOpenOperation("pay"), true);
  });
}

test("success without the mark is warned of, with the operation and the header", async () => {
  for (const [act, count] of [[answer(201), 1], [answer(403), 0], [ours(201), 0]]) {
    scene.warnings.length = 0;
    scene.server.will(act);
    await scene.buy();
    assert.equal(scene.warnings.length, count);
  }
  scene.server.will(answer(201));
  await scene.buy('{"cart": 2}');
  assert.match(scene.warnings[0].join(" "), /no header Idempotency-Ended.*pay/s);
});

/** What the view does that answers with a redirect: it tells where, if asked to. */
const toOrder = (behind) => (request, response) => {
  const isAsked = request.headers["idempotency-redirect"] === "tell";
  const told = ours(204, { "Idempotency-Location": "/orders/7/?next=/cart/" }, "");
  const act = isAsked ? told : redirect(303, "/orders/7/?next=/cart/");
  (request.method === "POST" ? act : behind)(request, response);
};

test("redirect of ours is followed and ends the operation", async () => {
  setGlobal("location", new URL(scene.server.url));
  scene.server.will(toOrder(answer(200, {}, "Thank you!")));
  const page = await scene.buy("{}", {}, { headers: { "Content-Type": "application/json", "X-Shop": "7" } });
  assert.equal(await page.text(), "Thank you!");
  assert.deepEqual([page.redirected, new URL(page.url).pathname], [true, "/orders/7/"]);
  assert.equal(scene.hasOpenOperation("pay"), false);
  const { method, headers, body } = scene.server.requests[1];
  assert.deepEqual([method, headers["x-shop"], body], ["GET", "7", ""]);
  for (const name of ["idempotency-key", "idempotency-redirect", "content-type"]) assert.ok(!(name in headers));
});

test("page behind a redirect of ours that doesn't arrive is asked for again", async () => {
  setGlobal("location", new URL(scene.server.url));
  scene.server.will(toOrder(lose));
  await assert.rejects(scene.buy("{}", { tries: 2 }), TypeError);
  assert.deepEqual(scene.server.requests.map((each) => each.method), ["POST", "GET", "POST", "GET"]);
  assert.equal(scene.hasOpenOperation("pay"), true);
});

test("another origin isn't asked to tell, since it would have to allow the header", async () => {
  setGlobal("location", new URL("http://shop.test/"));
  scene.server.will(toOrder(answer(200)));
  await scene.buy();
  assert.equal(scene.hasOpenOperation("pay"), true);
});

test("answer can still be read", async () => {
  scene.server.will(ours(201, {}, '{"order": 7}'));
  assert.deepEqual(await (await scene.buy()).json(), { order: 7 });
});

test("problem is asked for beside a page", async () => {
  scene.server.will(inFlight, ours(201));
  await scene.buy("{}", {}, { headers: { Accept: "text/html" } });
  assert.equal(scene.server.requests[0].headers.accept, "text/html, application/problem+json");
});
