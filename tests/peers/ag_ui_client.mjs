// A conversation by `HttpAgent` of a version of @ag-ui/client, whose events are printed a line each.
const [url, token, scenario, text, version] = process.argv.slice(2);
const { HttpAgent, buildResumeArray } = await import(version);
const headers = { Authorization: `Bearer ${token}` };
const print = (name, value = null) => console.log(JSON.stringify({ name, value }));
// HttpAgent 1.0 cancels its reader once more after a connection has failed, and nobody catches what that throws
process.on("unhandledRejection", (error) => print("unhandled", error.message));
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const where = { name: "where_am_i", description: "The place", parameters: { type: "object", properties: {} } };

function agentOf(more = {}) {
  const agent = new HttpAgent({ url, headers, ...more });
  agent.addMessage({ id: "question", role: "user", content: text });
  agent.subscribe({
    onTextMessageContentEvent: ({ event }) => print("delta", event.delta),
    onCustomEvent: ({ event }) => print("custom", event.name),
    onRunErrorEvent: ({ event }) => print("error", event.message),
    onRunFailed: ({ error }) => print("failed", error.message),
  });
  return agent;
}

// without ids, which differ from run to run
const plain = ({ role, content, toolCalls }) => ({
  role,
  content: content ?? "",
  calls: (toolCalls ?? []).map((call) => [call.function.name, call.function.arguments]),
});
const shown = (agent) => print("messages", agent.messages.map(plain));

// one stream for one run, whatever happens to connections and engine: for `fetch` of HttpAgent
async function unbroken(target, init) {
  const first = await fetch(target, init);
  if (!first.ok) return first;
  let resume, cursor, ended;
  const note = (frame) => {
    if (!frame.startsWith("data: ")) return;
    const event = JSON.parse(frame.slice(6));
    const about = event.metadata?.bytebrew ?? {};
    [resume, cursor] = [resume ?? about.resume, about.cursor ?? cursor];
    ended = event.type === "RUN_FINISHED" || event.type === "RUN_ERROR";
  };
  const rest = () => fetch(new URL(`${resume}&after=${cursor}`, target), { headers }).catch(() => null);
  async function* frames() {
    for (let response = first; ; response = await rest()) {
      let part = "";
      try {
        for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
          const whole = (part + chunk).split("\n\n");
          part = whole.pop();
          for (const frame of whole) {
            note(frame);
            yield `${frame}\n\n`;
          }
        }
      } catch {
        print("broken");
      }
      if (ended) return;
      await sleep(200);
    }
  }
  const raw = [];
  const encoder = new TextEncoder();
  const source = frames();
  const body = new ReadableStream({
    async pull(controller) {
      const { value, done } = await source.next();
      if (done) {
        print("raw", { resume, text: raw.join("") });
        controller.close();
      } else {
        if (value.startsWith("data: ")) raw.push(value);
        controller.enqueue(encoder.encode(value));
      }
    },
  });
  return new Response(body, { status: first.status, headers: first.headers });
}

async function untilWhole(agent) {
  for (;;) {
    try {
      return await agent.runAgent();
    } catch {
      print("broken");
      await sleep(300);
    }
  }
}

const scenarios = {
  async run() {
    const agent = agentOf({ initialState: { units: "metric" } });
    const { result } = await agent.runAgent().catch((error) => ({ result: error.message }));
    print("result", result ?? null);
    print("state", agent.state);
    shown(agent);
  },
  async again() {
    const agent = agentOf();
    await untilWhole(agent);
    shown(agent);
  },
  async unbroken() {
    const agent = agentOf({ fetch: unbroken });
    await agent.runAgent();
    shown(agent);
  },
  async decide() {
    const agent = agentOf();
    await agent.runAgent();
    for (const payload of [{ approved: true }, { approved: true, editedArgs: { amount: 7 } }, { approved: false }]) {
      const answers = agent.pendingInterrupts.map((one) => [one.id, { status: "resolved", payload }]);
      print("asked", agent.pendingInterrupts.map((one) => [one.reason, one.message]));
      await agent.runAgent({ resume: buildResumeArray(agent.pendingInterrupts, Object.fromEntries(answers)) });
    }
    shown(agent);
  },
  async tools() {
    const agent = agentOf();
    await agent.runAgent({ tools: [where] });
    const call = agent.messages.at(-1).toolCalls[0];
    agent.addMessage({ id: "result", role: "tool", toolCallId: call.id, content: "Oslo" });
    await agent.runAgent({ tools: [where] });
    agent.addMessage({ id: "more", role: "user", content: '[["And more"]]' });
    await agent.runAgent();
    shown(agent);
  },
};
await scenarios[scenario]();
