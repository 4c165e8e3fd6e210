// What a program does with OpenAI's own client for Node.js, unchanged: completions_client.mjs WHAT URL KEY [TEXT].
// It writes a line of JSON for each thing that it gets.
import OpenAI from "openai";

const [what, url, apiKey, text = "Hi"] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey });
const model = "talk";
const show = (value) => console.log(JSON.stringify(value));
const user = (content) => ({ role: "user", content });

const acts = {
  async models() {
    const ids = [];
    for await (const one of client.models.list()) ids.push(one.id);
    show(ids);
    show((await client.models.retrieve(model)).owned_by);
    await client.models.retrieve("no-such-model").catch((error) => show([error.status, error.code, error.param]));
  },

  async conversation() {
    const said = [{ role: "system", content: "Be brief." }, user(text)];
    const { data, response } = await client.chat.completions.create({ model, messages: said }).withResponse();
    show([response.headers.get("x-session-id"), data.choices[0].message.content, data.usage.total_tokens]);
    said.push(data.choices[0].message, user(text));
    const options = { model, messages: said, stream: true, stream_options: { include_usage: true } };
    const streamed = await client.chat.completions.create(options).withResponse();
    let content = "";
    let usage = 0;
    for await (const chunk of streamed.data) {
      content += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage?.total_tokens ?? usage;
    }
    show([streamed.response.headers.get("x-session-id"), content, usage]);
    said.push({ role: "assistant", content }, user([{ type: "text", text }]));
    const runner = client.chat.completions.stream({ model, messages: said });
    const final = await runner.finalChatCompletion();
    show([null, final.choices[0].message.content, final.choices[0].finish_reason]);
  },

  async tools() {
    const where = {
      type: "function",
      function: {
        name: "where",
        description: "The place",
        parameters: { type: "object", properties: { n: { type: "integer" } } },
        parse: JSON.parse,
        function: ({ n }) => `place {"n":${n}}`,
      },
    };
    const runner = client.chat.completions.runTools({ model, messages: [user(text)], tools: [where], stream: true });
    show(await runner.finalContent());
    show(runner.messages.map((one) => one.role));
  },

  async again() {
    for (;;) {
      let streamed = "";
      try {
        const options = { headers: { "Idempotency-Key": "trial" }, maxRetries: 0 };
        const stream = await client.chat.completions.create({ model, messages: [user(text)], stream: true }, options);
        for await (const chunk of stream) {
          streamed += chunk.choices[0].delta.content ?? "";
          show([streamed, chunk.choices[0].finish_reason]);
          if (chunk.choices[0].finish_reason) return;
        }
      } catch (error) {
        if (error instanceof OpenAI.APIError && error.status) throw error;
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }
  },
};

await acts[what]();
