// The parser of Server-Sent Events: any split of the bytes gives the same events.
import assert from "node:assert/strict";
import { test } from "node:test";
import { frames } from "../dist/sse.js";

const bytes = (text) => new TextEncoder().encode(text);

async function parsed(chunks) {
  const found = [];
  for await (const frame of frames((async function* () { yield* chunks; })())) found.push({ ...frame });
  return found;
}

const STREAM =
  "\uFEFF: ok\n\n" +
  'id: 1\nevent: message_delta\ndata: {"content":"Grüße 🐝\u2028\u2029\u0085"}\n\n' +
  'id: 2:17\r\nevent: message_delta\r\ndata: {"content":\r\ndata: "two lines"}\r\n\r\n' +
  ": heartbeat\r\r" +
  "id:3\revent:done\rdata:{}\r\r" +
  "event: queued\ndata: {}\nretry: 10\nunknown: x\nalone\n\n" +
  "id: 4\n\n" + // without data it is no event
  "data\n\n" +
  "data:  a space\n\n" +
  "id: 9\ndata: breaks off";

const EVENTS = [
  { id: "1", event: "message_delta", data: '{"content":"Grüße 🐝\u2028\u2029\u0085"}' },
  { id: "2:17", event: "message_delta", data: '{"content":\n"two lines"}' },
  { id: "3", event: "done", data: "{}" },
  { id: "", event: "queued", data: "{}" },
  { id: "", event: "", data: "" },
  { id: "", event: "", data: " a space" },
];

test("all line ends, comments, characters of several bytes and fields that are not known", async () => {
  assert.deepEqual(await parsed([bytes(STREAM)]), EVENTS);
});

test("a split at any byte changes nothing", async () => {
  const whole = bytes(STREAM);
  for (let at = 0; at <= whole.length; at++) {
    assert.deepEqual(await parsed([whole.subarray(0, at), whole.subarray(at)]), EVENTS, `split at ${at}`);
  }
});

test("any pieces give the same events, one byte at a time too", async () => {
  const whole = bytes(STREAM);
  for (let seed = 1; seed <= 300; seed++) {
    let state = seed;
    const next = (most) => (state = (state * 48271) % 2147483647) % most;
    const pieces = [];
    for (let at = 0; at < whole.length; ) {
      const length = seed === 1 ? 1 : next(9); // empty ones too
      pieces.push(whole.subarray(at, at + length));
      at += length;
    }
    assert.deepEqual(await parsed(pieces), EVENTS, `seed ${seed}`);
  }
});

test("a long line that comes in many pieces takes linear time", async () => {
  const line = bytes(`data: ${"x".repeat(4_000_000)}\n\n`);
  const pieces = [];
  for (let at = 0; at < line.length; at += 1000) pieces.push(line.subarray(at, at + 1000));
  const [frame] = await parsed(pieces);
  assert.equal(frame.data.length, 4_000_000);
});
