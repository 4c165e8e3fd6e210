// The client over a double of fetch: what it sends, what it sends again, and what it throws.
import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import * as bytebrew from "../dist/index.js";

const { Client, visitorToken } = bytebrew;

/** A double of fetch: each answer is a Response, an error to reject with, or a function of the request. */
function answering(...answers) {
  const requests = [];
  const fetch = async (url, init) => {
    const headers = Object.fromEntries(Object.entries(init.headers).map(([name, value]) => [name.toLowerCase(), value]));
    requests.push({ method: init.method, path: url.replace("http://engine", ""), headers, body: init.body });
    init.signal?.throwIfAborted();
    const answer = answers.shift();
    if (answer === undefined) throw new Error(`one request too many: ${init.method} ${url}`);
    if (answer instanceof Error) throw answer;
    return typeof answer === "function" ? await answer(init) : answer;
  };
  return { fetch, requests };
}

const client = (double, more = {}) => new Client({ url: "http://engine/", token: "secret", fetch: double.fetch, ...more });
const json = (body, status = 200, headers = {}) => new Response(JSON.stringify(body), { status, headers });
const refused = (status, error, headers = {}, more = {}) => json({ error, message: "No.", ...more }, status, headers);
const network = () => new TypeError("fetch failed", { cause: new Error("ECONNREFUSED") });
const ids = { "x-session-id": "s1", "x-turn-id": "t1" };

/** A stream of frames that ends, breaks off with an error, or stays open. */
function stream(frames, { end = "close", headers = ids } = {}) {
  const body = new ReadableStream({
    start(controller) {
      for (const [id, event, data] of frames) {
        const text = `${id ? `id: ${id}\n` : ""}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
        controller.enqueue(new TextEncoder().encode(text));
      }
      if (end === "close") controller.close();
    },
    pull(controller) {
      if (end === "break") controller.error(new TypeError("terminated"));
    },
  });
  return new Response(body, { headers });
}

const delta = (id, content) => [id, "message_delta", { content }];
const done = (id) => [id, "done", { session_id: "s1", turn_id: "t1", status: "completed", finish_reason: "stop" }];

async function all(turn) {
  const found = [];
  for await (const event of turn) found.push(event);
  return found;
}

test("a message has the key, the token and the fields of the API, and its events come as they are", async () => {
  const double = answering(stream([delta("1", "Hi"), done("2")]));
  const turn = client(double).chat("sup port", "Hello", { session_id: "s1", on_busy: "steer", user_sub: "anna" });
  const events = await all(turn);
  const [request] = double.requests;
  assert.equal(`${request.method} ${request.path}`, "POST /api/v1/schemas/sup%20port/chat");
  assert.equal(request.headers.authorization, "Bearer secret");
  assert.match(request.headers["idempotency-key"], /^[0-9a-f]{32}$/);
  assert.deepEqual(JSON.parse(request.body), { message: "Hello", session_id: "s1", on_busy: "steer", user_sub: "anna" });
  assert.deepEqual(events.map(({ id, event }) => [id, event]), [["1", "message_delta"], ["2", "done"]]);
  assert.deepEqual([turn.sessionId, turn.turnId, turn.textSoFar, turn.state.last_event_id], ["s1", "t1", "Hi", "2"]);
});

test("before the first event the message is sent again with its key, behind it the events are read on", async () => {
  const double = answering(
    network(),
    stream([], { end: "break" }),
    stream([delta("1", "a")], { end: "break" }),
    network(),
    stream([delta("1", "a"), delta("2", "b")]), // an engine that repeats is no harm
    stream([done("3")]),
  );
  const events = await all(client(double).chat("s", "Hello"));
  assert.deepEqual(events.map((one) => one.id), ["1", "2", "3"]);
  const sent = double.requests;
  assert.deepEqual(sent.map((one) => one.method), ["POST", "POST", "POST", "GET", "GET", "GET"]);
  assert.equal(new Set(sent.slice(0, 3).map((one) => one.headers["idempotency-key"] + one.body)).size, 1);
  assert.deepEqual(sent.slice(3).map((one) => one.path), Array(3).fill("/api/v1/sessions/s1/events"));
  assert.deepEqual(sent.slice(3).map((one) => one.headers["last-event-id"]), ["1", "1", "2"]);
});

test("an error without an id is one of the stream: the turn goes on", async () => {
  const draining = ["", "error", { session_id: "s1", turn_id: "t1", code: "draining", message: "It stops" }];
  const events = await all(client(answering(stream([delta("1", "a"), draining]), stream([done("2")]))).chat("s", "Hello"));
  assert.deepEqual(events.map((one) => one.id), ["1", "2"]);
});

test("a place in the queue comes once, each time that it changes", async () => {
  const queued = (position) => ["", "queued", { session_id: "s1", turn_id: "t1", position, needs_input: false }];
  const double = answering(stream([queued(2)]), stream([queued(2), queued(1)]), stream([delta("7", "a"), done("8")]));
  const events = await all(client(double).chat("s", "Hello"));
  assert.deepEqual(events.map((one) => one.data.position ?? one.id), [2, 1, "7", "8"]);
});

test("ids of a restored database are of another history", async () => {
  const double = answering(stream([delta("2:9", "a")]), stream([delta("2:9", "a"), delta("2:10", "b"), done("2:11")]));
  assert.deepEqual((await all(client(double).chat("s", "Hello"))).map((one) => one.id), ["2:9", "2:10", "2:11"]);
  assert.equal(double.requests[1].headers["last-event-id"], "2:9");
  const other = client(answering(stream([delta("9", "a"), delta("2:3", "b"), done("2:4")]))).chat("s", "Hello");
  assert.deepEqual((await all(other)).map((one) => one.id), ["9", "2:3", "2:4"]);
});

test("events that are not known pass through by their name", async () => {
  const events = await all(client(answering(stream([["1", "weather", { sun: true }], done("2")]))).chat("s", "Hello"));
  assert.deepEqual(events[0], { id: "1", event: "unknown", name: "weather", data: { sun: true } });
});

test("the end of a spawned agent is not the end of the turn", async () => {
  const [, name, data] = done("1");
  const events = await all(client(answering(stream([["1", name, { ...data, agent: "helper" }], done("2")]))).chat("s", "Hi"));
  assert.equal(events.length, 2);
});

test("a restart takes back what no longer counts", async () => {
  const restart = ["2", "message_restart", { content: "Well. " }];
  const turn = client(answering(stream([delta("1", "Well. Perhaps"), restart, delta("3", "Yes."), done("4")]))).chat("s", "Hi");
  await all(turn);
  assert.equal(turn.textSoFar, "Well. Yes.");
});

test("a state goes on behind its last event, and from the first one without it", async () => {
  const first = client(answering(stream([delta("1", "a"), delta("2", "b"), done("3")]))).chat("s", "Hello");
  for await (const event of first) if (event.id === "1") break;
  const state = JSON.parse(JSON.stringify(first.state));
  const behind = answering(stream([delta("2", "b"), done("3")]));
  assert.deepEqual((await all(client(behind).resume(state))).map((one) => one.id), ["2", "3"]);
  assert.equal(behind.requests[0].headers["last-event-id"], "1");
  const anew = answering(stream([delta("1", "a"), delta("2", "b"), done("3")]));
  assert.equal((await all(client(anew).resume({ ...state, last_event_id: "" }))).length, 3);
  assert.equal(anew.requests[0].headers["idempotency-key"], state.key);
  const [over, ended] = [client(answering()), client(behind)];
  assert.deepEqual(await all(over.resume({ ...state, last_event_id: "3", ended: true })), []);
  assert.equal(ended.resume({ ...state, last_event_id: "", ended: true }).state.ended, false);
});

test("a message that was sent days ago is not sent as a new one", async () => {
  const state = { path: "/p", body: "{}", key: "k", begun_at: Date.now() - 1e8, session_id: "s1", turn_id: "t1", last_event_id: "" };
  await assert.rejects(all(client(answering()).resume(state)), /too long ago/);
});

test("files go along in base64, and in the message again", async () => {
  const double = answering(network(), stream([done("1")]));
  const file = new File([new Uint8Array([0, 255, 128])], "dot.png", { type: "image/png" });
  await all(client(double).chat("s", "What is it?", { attachments: [file, { media_type: "text/plain", url: "https://a/b" }] }));
  const [one, two] = double.requests.map((request) => JSON.parse(request.body));
  assert.deepEqual(one.attachments[0], { media_type: "image/png", data: "AP+A", name: "dot.png" });
  assert.equal(one.attachments[1].url, "https://a/b");
  assert.deepEqual(one, two);
});

for (const [status, kind] of [
  [400, "InvalidRequest"], [401, "Unauthorized"], [402, "APIError"], [403, "Forbidden"], [404, "NotFound"],
  [409, "Conflict"], [410, "Gone"], [413, "APIError"], [422, "InvalidRequest"], [500, "APIError"], [502, "APIError"],
]) {
  test(`${status} is ${kind}, and is not sent again`, async () => {
    const details = [{ path: "$.message", message: "is empty" }];
    const double = answering(refused(status, "some_code", { "x-request-id": "req_1" }, { details, session_id: "s1" }));
    await assert.rejects(all(client(double).chat("s", "Hello")), (error) => {
      assert.equal(error.name, kind);
      assert(error instanceof bytebrew[kind] && error instanceof bytebrew.ByteBrewError);
      const { code, requestId, retryAfter, sessionId } = error;
      assert.deepEqual([error.status, code, requestId, retryAfter, sessionId], [status, "some_code", "req_1", undefined, "s1"]);
      assert.deepEqual(error.details, details);
      assert.equal(error.message, "some_code: No. ($.message: is empty)");
      return true;
    });
    assert.equal(double.requests.length, 1);
  });
}

test("what passes is sent again: 503, 429 with a wait, and a proxy without its engine", async () => {
  const double = answering(
    refused(503, "overloaded", { "retry-after": "0" }),
    refused(503, "interrupted"),
    refused(429, "rate_limited", { "retry-after": "0.1" }),
    new Response("<html>Bad Gateway</html>", { status: 502 }),
    new Response("", { status: 504 }),
    stream([done("1")]),
  );
  assert.equal((await all(client(double).chat("s", "Hello"))).length, 1);
  assert.equal(double.requests.length, 6);
});

test("a wait may be a date", async () => {
  const later = new Date(Date.now() + 3_600_000).toUTCString();
  const double = answering(refused(503, "overloaded", { "retry-after": later }));
  await assert.rejects(all(client(double).chat("s", "Hello")), (error) => Math.abs(error.retryAfter - 3600) < 5);
});

test("a wait that is longer than retryFor is the caller's to decide", async () => {
  const double = answering(refused(429, "rate_limited", { "retry-after": "3600" }));
  await assert.rejects(all(client(double).chat("s", "Hello")), { name: "RateLimited", retryAfter: 3600 });
});

test("an engine that stays away is ConnectionLost, with what the network said", async () => {
  const double = answering(...Array(50).fill(0).map(network));
  await assert.rejects(all(client(double, { retryFor: 500 }).chat("s", "Hello")), (error) => {
    assert(error instanceof bytebrew.ConnectionLost);
    return /ECONNREFUSED/.test(error.message) && error.cause instanceof TypeError;
  });
  assert(double.requests.length > 1);
});

test("progress begins the count of failures anew", async () => {
  const answers = [];
  for (let n = 1; n <= 6; n++) answers.push(stream([delta(`${n}`, "a")], { end: "break" }), network());
  const events = await all(client(answering(...answers, stream([done("7")])), { retryFor: 500 }).chat("s", "Hello"));
  assert.equal(events.length, 7); // six times a quarter of a second of waiting
});

test("a stream that is silent is opened again", async () => {
  const double = answering(stream([delta("1", "a")], { end: "never" }), stream([done("2")]));
  assert.equal((await all(client(double, { silence: 50 }).chat("s", "Hello"))).length, 2);
});

test("an engine that takes a request and says nothing is called again", async () => {
  const mute = (init) => new Promise((_, reject) => init.signal.addEventListener("abort", () => reject(init.signal.reason)));
  assert.equal((await all(client(answering(mute, stream([done("1")])), { silence: 50 }).chat("s", "Hello"))).length, 1);
});

test("a time limit and a signal end a turn, also while it waits to try again", async () => {
  const open = () => stream([delta("1", "a")], { end: "never" });
  await assert.rejects(all(client(answering(open())).chat("s", "Hello", { timeout: 50 })), { name: "TimedOut" });
  await assert.rejects(all(client(answering(network())).chat("s", "Hello", { timeout: 50 })), { name: "TimedOut" });
  await assert.rejects(all(client(answering(open())).chat("s", "Hello", { signal: AbortSignal.timeout(50) })), { name: "TimeoutError" });
  await assert.rejects(all(client(answering()).chat("s", "Hello", { signal: AbortSignal.abort() })), { name: "AbortError" });
  const mute = (init) => new Promise((_, reject) => init.signal.addEventListener("abort", () => reject(init.signal.reason)));
  await assert.rejects(client(answering(mute)).sessions.get("s1", { timeout: 50 }), { name: "TimedOut" });
});

test("leaving the loop closes the connection", async () => {
  let closed = false;
  const body = new ReadableStream({
    start: (controller) => controller.enqueue(new TextEncoder().encode('id: 1\nevent: notice\ndata: {}\n\n')),
    cancel: () => void (closed = true),
  });
  for await (const _ of client(answering(new Response(body, { headers: ids }))).chat("s", "Hello")) break;
  assert(closed);
});

const called = ["1", "client_tool_call", { session_id: "s1", turn_id: "t1", call_id: "c1", tool: "place", input: { exact: true }, expires_at: null }];
const place = (run) => ({ name: "place", description: "Where", input_schema: { type: "object" }, run });

/** A stream that goes on to its end once `respond` was called. */
function waiting(...begin) {
  let go;
  const answered = new Promise((resolve) => (go = resolve));
  const encode = ([id, event, data]) => new TextEncoder().encode(`id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  const body = new ReadableStream({
    async start(controller) {
      for (const one of begin) controller.enqueue(encode(one));
      await answered;
      controller.enqueue(encode(done("9")));
      controller.close();
    },
  });
  const respond = (answer) => () => (setTimeout(go, 30), answer);
  return [new Response(body, { headers: ids }), respond];
}

test("a tool runs here, and its result goes to the turn", async () => {
  const [events, respond] = waiting(called);
  const double = answering(events, respond(json({ status: "ok" })));
  const seen = [];
  await all(client(double).chat("s", "Hello", { tools: [place((...all) => (seen.push(all), { city: "Zürich" }))] }));
  assert.deepEqual(JSON.parse(double.requests[0].body).client_tools, [{ name: "place", description: "Where", input_schema: { type: "object" } }]);
  assert.equal(double.requests[1].path, "/api/v1/sessions/s1/respond");
  assert.deepEqual(JSON.parse(double.requests[1].body), { call_id: "c1", result: { city: "Zürich" }, is_error: false });
  assert.deepEqual(seen[0][0], { exact: true });
});

test("a tool that throws has failed, and what it returns nothing is null", async () => {
  for (const [run, sent] of [[() => { throw new Error("no map"); }, ["no map", true]], [() => {}, [null, false]]]) {
    const [events, respond] = waiting(called);
    const double = answering(events, respond(json({ status: "ok" })));
    await all(client(double).chat("s", "Hello", { tools: [place(run)] }));
    const { result, is_error } = JSON.parse(double.requests[1].body);
    assert.deepEqual([result, is_error], sent);
  }
});

test("a result for which nobody waits any more is passed over, one that is refused ends the reading", async () => {
  const [events, respond] = waiting(called);
  await all(client(answering(events, respond(refused(410, "gone")))).chat("s", "Hello", { tools: [place(() => 1)] }));
  const [open] = waiting(called);
  const double = answering(open, refused(413, "payload_too_large"));
  await assert.rejects(all(client(double).chat("s", "Hello", { tools: [place(() => 1)] })), { code: "payload_too_large" });
});

const question = {
  session_id: "s1", turn_id: "t1", confirmation_id: "conf_1", call_id: "c1", source: "core", tool: "wipe", risk: "dangerous",
  input: { disk: "sda" }, args_digest: "abc", kind: "confirm", expires_at: null,
};

test("a question is answered by its function, bound to what was shown", async () => {
  for (const [verdict, body] of [
    ["approve", { answers: ["approve"] }],
    [{ answer: "approve", input: { disk: "sdb" } }, { answers: ["approve"], input: { disk: "sdb" } }],
    [{ answer: "reject", reason: "Never" }, { answers: ["reject"], reason: "Never" }],
  ]) {
    const [events, respond] = waiting(["1", "confirmation", question]);
    const double = answering(events, respond(json({ status: "ok" })));
    await all(client(double).chat("s", "Hello", { onConfirmation: (one) => one.tool === "wipe" ? verdict : undefined }));
    assert.deepEqual(JSON.parse(double.requests[1].body), { confirmation_id: "conf_1", args_digest: "abc", ...body });
  }
});

test("what waited when a page was loaded again is answered, and what is over is not", async () => {
  const state = { path: "/p", body: "{}", key: "k", begun_at: Date.now(), session_id: "s1", turn_id: "t1", last_event_id: "1" };
  const call = { turn_id: "t1", call_id: "c1", confirmation_id: "x", tool: "place", input: {}, created_at: "", expires_at: null };
  const [events, respond] = waiting();
  const double = answering(json({ client_calls: [call] }), respond(json({ status: "ok" })), events);
  let runs = 0;
  await all(client(double).resume(state, { tools: [place(() => ++runs)] }));
  assert.equal(runs, 1);
  const over = answering(stream([called, done("2")], {}), json({ client_calls: [] }));
  await all(client(over).resume({ ...state, turn_id: "", last_event_id: "" }, { tools: [place(() => ++runs)] }));
  assert.equal(runs, 1);
});

test("an answer is the turn as the engine has it, and a failed turn is thrown", async () => {
  const whole = { session_id: "s1", turn_id: "t1", message: "Hi", tool_calls: [], status: "completed" };
  const double = answering(stream([delta("1", "Hi"), done("2")]), json(whole));
  assert.deepEqual(await client(double).chat("s", "Hello").answer(), whole);
  assert.equal(double.requests[1].path, "/api/v1/sessions/s1/turns/t1");
  const failed = ["1", "error", { session_id: "s1", turn_id: "t1", code: "model_overloaded", message: "Busy", retry_after: 7 }];
  const failure = { ...whole, status: "failed", failure: { error: "model_overloaded", message: "Busy" } };
  const chat = client(answering(stream([failed]), json(failure), json(failure))).chat("s", "Hello");
  await assert.rejects(chat.answer(), { name: "TurnFailed", code: "model_overloaded", retryAfter: 7 });
  await assert.rejects(chat.answer(), { name: "TurnFailed" });
});

test("nothing that is printed or thrown has the token in it", async () => {
  const errors = [];
  const double = answering(network(), refused(401, "unauthorized"));
  const shown = client(double, { retryFor: 0 });
  for (const _ of [1, 2]) await shown.sessions.get("s1").catch((error) => errors.push(error));
  const text = inspect([shown, shown.chat("s", "Hello"), ...errors], { depth: null, showHidden: true });
  assert.match(text, /ECONNREFUSED.*unauthorized/s);
  assert.doesNotMatch(text, /secret/);
});

test("leaving the loop is no loss: another one goes on behind the last event", async () => {
  const double = answering(stream([delta("1", "a"), delta("2", "b")]), stream([delta("2", "b"), done("3")]));
  const chat = client(double).chat("s", "Hello");
  for await (const _ of chat) break;
  assert.deepEqual((await all(chat)).map((one) => one.id), ["2", "3"]);
  assert.equal(chat.textSoFar, "ab");
  assert.deepEqual(await all(chat), []);
});

test("an answer is what there is where a person must answer first", async () => {
  const [open] = waiting(["1", "confirmation", question]);
  const asked = { session_id: "s1", turn_id: "t1", message: "", status: "needs_input", questions: [{ id: "conf_1" }] };
  const chat = client(answering(open, json(asked), json({}), stream([done("2")]), json({ ...asked, questions: [], message: "Gone" })));
  assert.equal((await chat.chat("s", "Wipe!").answer()).status, "needs_input");
  const [again] = waiting(["1", "confirmation", question]);
  const double = answering(again, json(asked), json({ status: "ok" }), stream([done("2")]), json({ ...asked, questions: [], message: "Gone" }));
  const other = client(double).chat("s", "Wipe!");
  await assert.rejects(other.text(), (error) => error instanceof bytebrew.InputNeeded && error.answer.status === "needs_input");
  await other.approve(question);
  assert.deepEqual(JSON.parse(double.requests[2].body), { confirmation_id: "conf_1", answers: ["approve"], args_digest: "abc" });
  assert.equal(await other.text(), "Gone");
});

test("a reply has the session and the options of the message before, an edit its turn", async () => {
  const double = answering(...[1, 2, 3, 4].map(() => stream([done("1")])));
  const first = client(double).chat("s", "Hello", { user_sub: "anna", timeout: 10_000, tools: [place(() => 1)], attachments: [] });
  assert.throws(() => first.reply("And?"), /no session yet/);
  await first.send();
  await all(first.reply("And?"));
  await first.steer("In euros");
  await all(first.edit("Goodbye"));
  const sent = double.requests.map(({ path, body }) => [path, JSON.parse(body)]);
  const common = { user_sub: "anna", client_tools: [{ name: "place", description: "Where", input_schema: { type: "object" } }] };
  const chat = "/api/v1/schemas/s/chat";
  assert.deepEqual(sent, [
    [chat, { message: "Hello", ...common }],
    [chat, { message: "And?", session_id: "s1", ...common }],
    [chat, { message: "In euros", session_id: "s1", on_busy: "steer", ...common }],
    ["/api/v1/sessions/s1/edit", { message: "Goodbye", turn_id: "t1", ...common }],
  ]);
});

test("a POST that has no key is not sent twice, other requests are", async () => {
  const double = answering(network());
  await assert.rejects(client(double).tasks.approve("task_1"), { name: "ConnectionLost" });
  const again = answering(network(), json({ id: "task_1" }), network(), refused(404, "not_found"));
  assert.equal((await client(again).tasks.create({ title: "t", agent: "a" })).id, "task_1");
  assert.equal(again.requests[0].headers["idempotency-key"], again.requests[1].headers["idempotency-key"]);
  assert.equal(await client(again).sessions.delete("s1"), undefined); // the first try has deleted it
});

test("a query string leaves out what is undefined, and a path is escaped", async () => {
  const double = answering(json({}), json({}));
  await client(double).sessions.list({ limit: 5, schema: undefined, from: "2026-01-01" });
  await client(double).sessions.get("../x");
  assert.deepEqual(double.requests.map((one) => one.path), ["/api/v1/sessions?offset=0&limit=5&from=2026-01-01", "/api/v1/sessions/..%2Fx"]);
});

test("a visitor has a token of their own, kept and renewed", async () => {
  const items = new Map();
  const store = { getItem: (key) => items.get(key) ?? null, setItem: (key, value) => items.set(key, value) };
  const later = (seconds) => new Date(Date.now() + seconds * 1000).toISOString();
  const double = answering(
    json({ access_token: "v1", expires_at: later(61), visitor: "a", token_type: "Bearer" }),
    json({ access_token: "v2", expires_at: later(3600), visitor: "a", token_type: "Bearer" }),
  );
  const options = { url: "http://engine", token: "page", fetch: double.fetch, store };
  const token = visitorToken(options);
  assert.deepEqual(await Promise.all([token(), token()]), ["v1", "v1"]);
  await new Promise((resolve) => setTimeout(resolve, 1100));
  assert.equal(await token(), "v2");
  assert.equal(await visitorToken(options)(), "v2"); // the next visit
  assert.deepEqual(JSON.parse(double.requests[1].body), { access_token: "v1" });
  assert.equal(double.requests[0].headers.authorization, "Bearer page");
});

test("a visitor whose token is over or refused is a new one", async () => {
  const items = new Map();
  const store = { getItem: (key) => items.get(key) ?? null, setItem: (key, value) => items.set(key, value) };
  const visitor = (access_token, seconds) => ({ access_token, expires_at: new Date(Date.now() + seconds * 1000).toISOString() });
  items.set("bytebrew-visitor:http://engine", JSON.stringify(visitor("old", -5)));
  const pages = answering(json(visitor("v1", 3600)), json(visitor("v2", 3600)));
  const token = visitorToken({ url: "http://engine", token: "page", fetch: pages.fetch, store });
  const double = answering(refused(401, "unauthorized"), json({ id: "s1" }), refused(401, "unauthorized"));
  const shown = client(double, { token });
  assert.equal((await shown.sessions.get("s1")).id, "s1");
  assert.deepEqual(double.requests.map((one) => one.headers.authorization), ["Bearer v1", "Bearer v2"]);
  assert.deepEqual(pages.requests.map((one) => one.body), ["{}", "{}"]);
  const same = client(answering(refused(401, "unauthorized")), { token: () => "mine" });
  await assert.rejects(same.sessions.get("s1"), { name: "Unauthorized" });
});
