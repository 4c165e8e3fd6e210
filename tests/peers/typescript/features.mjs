// What the client offers, a function for each, whose result is printed: node features.mjs URL TOKEN NAME [ARGUMENT]
import * as bytebrew from "bytebrew-client";

const { Client, visitorToken } = bytebrew;
const [url, token, name, argument = "null"] = process.argv.slice(2);
const client = new Client({ url, token });

async function names(events) {
  const found = [];
  for await (const { event } of events) found.push(event);
  return found;
}

async function thrown(promise) {
  try {
    return await promise;
  } catch (error) {
    const { name, status, code, details, requestId, retryAfter, message } = error;
    return { name, status, code, details, requestId, retryAfter, message };
  }
}

const place = (run, name = "place") => ({ name, input_schema: { type: "object" }, run });

const features = {
  async approvals({ message, verdict }) {
    let question;
    const turn = client.chat("talk", message, { onConfirmation: (one) => ((question = one), verdict) });
    const { message: text, status } = await turn.answer();
    return { text, status, tool: question.tool, input: question.input };
  },

  async inbox({ message, admin }) {
    const turn = client.chat("talk", message);
    const answered = [];
    const operator = new Client({ url, token: admin });
    for await (const event of turn) {
      if (event.event !== "confirmation") continue;
      const { data } = await operator.approvals.list();
      for (const one of data) {
        if (one.session_id !== turn.sessionId) continue;
        answered.push((await operator.approvals.approve(one)).approved);
        answered.push(await thrown(turn.reject(event.data, { reason: "Too late" })));
      }
    }
    return { answered, text: turn.textSoFar };
  },

  async form({ message, form }) {
    const chat = client.chat("talk", message);
    const asked = await chat.answer();
    const wrong = await thrown(chat.answerForm({ size: "XL" }).answer());
    return { status: asked.status, title: asked.form.title, wrong, text: await chat.answerForm(form).text() };
  },

  async tools({ message }) {
    const seen = [];
    const tools = [
      place((input, { call_id }) => (seen.push([input, call_id]), { city: "Zürich" })),
      place(() => { throw new Error("no camera"); }, "photo"),
    ];
    const turn = client.chat("talk", message, { tools });
    const results = [];
    for await (const { event, data } of turn) if (event === "tool_result") results.push([data.tool, data.output, data.has_error]);
    return { seen, results: results.sort(), text: turn.textSoFar };
  },

  async attachments() {
    const attachments = [
      new File([new Uint8Array([0, 200, 255])], "dot.png", { type: "image/png" }),
      new Blob(["plain"], { type: "text/plain" }),
      { media_type: "image/png", url: "https://example.com/a.png" },
    ];
    return (await client.chat("talk", "[[\"I see.\"]]", { attachments }).answer()).session_id;
  },

  async structured({ message }) {
    const schema = { type: "object", required: ["n"], properties: { n: { type: "integer" } } };
    const turn = client.chat("talk", message, { response_format: { type: "json_schema", schema } });
    return await turn.value();
  },

  async steer({ message, other }) {
    const turn = client.chat("talk", message);
    const events = [];
    let steered;
    for await (const { event, data } of turn) {
      if (event !== "message_delta") events.push(event);
      else steered ??= await turn.steer(other);
      if (event === "steered") events.push(data.turn_id === steered.turnId);
    }
    return { events, first: turn.textSoFar, second: await steered.text() };
  },

  async cancel({ message }) {
    const turn = client.chat("talk", message);
    let end;
    for await (const { event, data } of turn) {
      if (event === "message_delta" && !end) end = turn.cancel();
      if (event === "done") end = data.status;
    }
    return [end, (await turn.answer()).status];
  },

  async sessions() {
    const first = await client.chat("talk", '[["One."]]').answer();
    const id = first.session_id;
    const second = await client.chat("talk", '[["Two."]]', { session_id: id }).answer();
    const edited = client.chat("talk", '[["Three."]]', { session_id: id, replaces: second.turn_id });
    const three = await edited.answer();
    const fork = await client.sessions.fork(id);
    await client.sessions.rename(fork.id, "Another");
    const events = [];
    for await (const event of client.sessions.events(id)) {
      events.push(event.event);
      if (events.filter((one) => one === "done").length === 2) break;
    }
    const texts = async (id) => (await client.sessions.messages(id)).data.map((one) => one.content);
    const result = {
      texts: [await texts(id), await texts(three.session_id), await texts(fork.id)],
      forks: (await client.sessions.forks(id)).total,
      title: (await client.sessions.get(fork.id)).title,
      listed: (await client.sessions.list({ limit: 100 })).data.some((one) => one.id === fork.id),
      turn: (await client.sessions.turn(id, second.turn_id)).message,
      events,
    };
    await client.sessions.delete(fork.id);
    return { ...result, gone: (await thrown(client.sessions.get(fork.id))).status };
  },

  async tasks({ admin }) {
    const { tasks } = new Client({ url, token: admin });
    const made = await tasks.create({ title: "Compare", agent: "talk", require_approval: true });
    const states = [made.status];
    states.push((await tasks.update(made.id, { description: "All of them" })).description);
    states.push((await tasks.priority(made.id, 2)).priority);
    states.push((await tasks.list({ status: "draft" })).data.some((one) => one.id === made.id));
    states.push((await tasks.subtasks(made.id)).length);
    const { digest } = await tasks.get(made.id);
    states.push((await tasks.approve(made.id, digest)).status);
    for await (const { event } of tasks.events(made.id)) if (event === "done") break;
    let ended = await tasks.get(made.id);
    while (ended.status === "in_progress") {
      // a task's status follows a moment behind the end of its turn
      await new Promise((go) => setTimeout(go, 20));
      ended = await tasks.get(made.id);
    }
    states.push(ended.status);
    const other = await tasks.create({ title: "Never", agent: "talk", require_approval: true });
    await tasks.cancel(other.id, "No longer needed");
    states.push((await tasks.get(other.id)).status);
    return states;
  },

  async errors() {
    return {
      invalid: await thrown(client.chat("talk", "").answer()),
      stranger: await thrown(new Client({ url, token: "bb_" + "0".repeat(64) }).chat("talk", "Hi").answer()),
      unknown: await thrown(client.chat("nobody", "Hi").answer()),
      allowed: await thrown(client.request("GET", "/api/v1/agents")),
      failed: await thrown(client.chat("talk", '[["Well"], ["too late"]]', { response_format: { type: "json_schema", schema: { type: "object" } } }).answer()),
    };
  },

  async limits({ message }) {
    const turn = client.chat("talk", message, { timeout: 400 });
    const late = await thrown(turn.answer());
    const controller = new AbortController();
    const other = client.chat("talk", message, { signal: controller.signal });
    const aborted = await thrown((async () => {
      for await (const { event } of other) if (event === "message_delta") controller.abort();
    })());
    const events = await names(client.resume(turn.state)); // the turn itself goes on
    return { late: late.name, aborted: aborted.name, end: events.at(-1) };
  },

  async crowd({ message }) {
    const all = [1, 2, 3].map(() => client.chat("talk", message).answer());
    return (await Promise.all(all)).map((one) => one.message);
  },

  async visitor({ message, page }) {
    const items = new Map();
    const store = { getItem: (key) => items.get(key) ?? null, setItem: (key, value) => void items.set(key, value) };
    const bearer = visitorToken({ url, token: page, store });
    const visitor = new Client({ url, token: bearer });
    const turn = visitor.chat("talk", message);
    const events = await names(turn);
    const again = visitorToken({ url, token: page, store });
    return { events, text: turn.textSoFar, same: (await bearer()) === (await again()), usage: (await turn.answer()).usage.output_tokens };
  },

  async part({ message, count, tools = [] }) {
    const turn = client.chat("talk", message, { tools: tools.map((one) => place(() => new Promise(() => {}), one)) });
    const events = [];
    for await (const event of turn) {
      events.push(event);
      if (events.length === count) return { events, state: turn.state };
    }
  },

  async rest({ state, tools = [] }) {
    const turn = client.resume(state, { tools: tools.map((one) => place(() => "Zürich", one)) });
    const events = [];
    for await (const event of turn) events.push(event);
    return { events, text: turn.textSoFar };
  },
};

console.log(JSON.stringify(await features[name](JSON.parse(argument))));
process.exit(0); // a part that was read leaves nothing open, a tool that never ends does
