/** Which answers are tried again, and which end the operation. */
import assert from "node:assert/strict";
import test from "node:test";
import { answer, eachTest, inFlight, lose, problem } from "./support.mjs";

const scene = eachTest();

const ENDS = [
  ["200", answer(200)],
  ["201", answer(201)],
  ["204", answer(204, {}, "")],
  ["304", answer(304, {}, "")],
  ["400 key-missing", problem(400, "key-missing")],
  ["400 key-invalid", problem(400, "key-invalid")],
  ["402", answer(402)],
  ["404", answer(404)],
  ["409 of the view", answer(409)],
  ["409 of the view as a problem", problem(409, "sold-out")],
  ["409 of the view as a broken problem", answer(409, { "Content-Type": "application/problem+json" }, "{")],
  ["410", answer(410)],
  ["422 key-reused", problem(422, "key-reused")],
  ["422 of the view", answer(422)],
];
const KEEPS = [
  ["409 outcome-unknown", problem(409, "outcome-unknown")],
  ["409 answer-unavailable", problem(409, "answer-unavailable")],
];
// And 421, which a fetch itself sends again on another connection, so not countable here.
const SAYS_NOTHING = [401, 403, 405, 406, 408, 413, 415, 423, 424, 425, 429];

async function pressAfterLostAnswer(act) {
  scene.server.will(lose);
  await assert.rejects(scene.buy("{}", { tries: 1 }));
  scene.server.will(act);
  return scene.buy();
}

for (const [name, act] of ENDS) {
  for (const [when, press] of [["first", () => scene.buy()], ["after a lost one", pressAfterLostAnswer]]) {
    test(`${name}, ${when}, is final and not tried again`, async () => {
      scene.server.will(act);
      await press(act);
      assert.equal(scene.server.requests.length, 1);
      assert.equal(scene.hasOpenOperation("pay"), false);
    });
  }
}

for (const [name, act] of KEEPS) {
  test(`${name} is not tried again, and the key stays`, async () => {
    scene.server.will(act);
    assert.equal((await scene.buy()).status, 409);
    assert.equal(scene.server.requests.length, 1);
    assert.equal(scene.hasOpenOperation("pay"), true);
  });
}

for (const status of SAYS_NOTHING) {
  test(`${status} at first means that nothing was done: the next press is a new operation`, async () => {
    scene.server.will(answer(status));
    await scene.buy();
    assert.equal(scene.server.requests.length, 1);
    assert.equal(scene.hasOpenOperation("pay"), false);
  });

  test(`${status} after a lost answer says nothing of that one: the key stays`, async () => {
    assert.equal((await pressAfterLostAnswer(answer(status))).status, status);
    assert.equal(scene.server.requests.length, 1);
    assert.equal(scene.hasOpenOperation("pay"), true);
  });

  test(`${status} on a retry is not tried again, and the key stays`, async () => {
    scene.server.will(lose, answer(status));
    assert.equal((await scene.buy()).status, status);
    assert.equal(scene.server.requests.length, 2);
    assert.equal(scene.hasOpenOperation("pay"), true);
  });
}

const toSignIn = (request, response) => {
  const next = encodeURIComponent("/orders/");
  if (request.method === "POST") answer(302, { Location: `/login/?next=${next}` })(request, response);
  else answer(200, {}, "Sign in")(request, response);
};

test("sign-in page in place of an answer says nothing of the lost one", async () => {
  const page = await pressAfterLostAnswer(toSignIn);
  assert.equal(page.redirected, true);
  assert.equal(scene.hasOpenOperation("pay"), true);
});

test("page behind any other redirect is final", async () => {
  const toOrder = (request, response) =>
    request.method === "POST"
      ? answer(303, { Location: "/orders/7/?next=/cart/" })(request, response)
      : answer(200, {}, "Thank you!")(request, response);
  const page = await pressAfterLostAnswer(toOrder);
  assert.equal(await page.text(), "Thank you!");
  assert.equal(scene.hasOpenOperation("pay"), false);
});

for (const [name, failure] of [
  ["lost answer", lose],
  ["500", answer(500)],
  ["502", answer(502)],
  ["503 store-unavailable", problem(503, "store-unavailable", { "Retry-After": "1" })],
  ["504", answer(504)],
  ["409 in-flight", inFlight],
]) {
  test(`${name} is tried again with the same key and the same body`, async () => {
    scene.server.will(failure, failure, answer(201));
    assert.equal((await scene.buy('{"cart": 7}')).status, 201);
    assert.equal(scene.server.requests.length, 3);
    assert.equal(scene.server.differentKeys.length, 1);
    assert.deepEqual(scene.server.requests.map((each) => each.body), Array(3).fill('{"cart": 7}'));
    assert.equal(scene.hasOpenOperation("pay"), false);
  });
}

test("answer can still be read", async () => {
  scene.server.will(answer(201, {}, '{"order": 7}'));
  assert.deepEqual(await (await scene.buy()).json(), { order: 7 });
});

test("problem is asked for beside a page", async () => {
  scene.server.will(inFlight, answer(201));
  await scene.buy("{}", {}, { headers: { Accept: "text/html" } });
  assert.equal(scene.server.requests[0].headers.accept, "text/html, application/problem+json");
});
