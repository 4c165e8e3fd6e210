// OpenAI's own client for Node.js and the AI SDK's for Open Responses; each act prints what they made of the answers.
import { createOpenResponses } from "@ai-sdk/open-responses";
import { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const [, , url, token, ...rest] = process.argv;
const model = "talk";
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: token });
const show = (values) => console.log(JSON.stringify(values));
const steps = (...each) => JSON.stringify(each);
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const parameters = { type: "object", properties: { n: { type: "integer" } }, required: ["n"] };
const where = { type: "function", name: "where", description: "The place", parameters };

async function acts() {
  const { responses } = client;
  const one = await responses.create({ model, input: steps(["Hel", "lo"]), metadata: { a: "b" } });
  show({ text: one.output_text, status: one.status, metadata: one.metadata, total: one.usage.total_tokens });
  const again = await responses.retrieve(one.id);
  show({ again: again.output_text === "Hello" && again.id === one.id });
  const two = await responses.create({ model, input: steps(["more"]), previous_response_id: one.id });
  show({ text: two.output_text, previous: two.previous_response_id === one.id });
  const items = [];
  const include = ["message.input_image.image_url"];
  for await (const item of responses.inputItems.list(two.id, { limit: 1, include })) items.push(item.content[0].text);
  show({ items });

  const stream = responses.stream({ model, input: steps([{ think: "hm" }, "a", "b"]) });
  const kinds = [];
  for await (const event of stream) kinds.push(event.type);
  const final = await stream.finalResponse();
  show({ kinds, text: final.output_text, reasoning: final.output[0].summary[0].text });

  let asks = await responses.create({ model, input: steps([["where", { n: 1 }]], ["at ", null]), tools: [where] });
  let [call] = asks.output;
  let output = { type: "function_call_output", call_id: call.call_id, output: "home" };
  const told = await responses.create({ model, previous_response_id: asks.id, input: [output], tools: [where] });
  show({ call: call.name, arguments: JSON.parse(call.arguments), text: told.output_text });

  const history = [{ role: "user", content: steps([["where", { n: 2 }]], ["at ", null]) }];
  asks = await responses.create({ model, input: history, tools: [where] });
  output = { type: "function_call_output", call_id: asks.output[0].call_id, output: "sea" };
  const all = await responses.create({ model, input: [...history, ...asks.output, output], tools: [where] });
  show({ text: all.output_text });

  const format = zodTextFormat(z.object({ n: z.number() }), "number");
  const parsed = await responses.parse({ model, input: steps(['{"n": 4}']), text: { format } });
  show({ parsed: parsed.output_parsed.n });

  asks = await responses.create({ model, input: steps([["pay", { amount: 3 }]], ["so: ", null]) });
  const [asked] = asks.output;
  const answer = { type: "mcp_approval_response", approval_request_id: asked.id, approve: true };
  const paid = await responses.create({ model, previous_response_id: asks.id, input: [answer] });
  show({ asked: asked.name, output: paid.output[0].output, text: paid.output_text });

  const runs = await responses.create({ model, input: "Count", background: true });
  const cancelled = await responses.cancel(runs.id);
  show({ status: cancelled.status, again: (await responses.cancel(runs.id)).status });
  await responses.delete(one.id);
  await responses.retrieve(one.id).catch((error) => show({ status: error.status, code: error.code }));
  const late = { model, input: "a", previous_response_id: one.id };
  await responses.create(late).catch((error) => show({ code: error.code, param: error.param }));
}

// A stream in the background, taken up behind its last event as often as it breaks off; a line an event.
async function background() {
  let id, seen;
  let stream = await client.responses.create({ model, input: rest[0], background: true, stream: true });
  for (;;) {
    try {
      for await (const event of stream) {
        seen = event.sequence_number;
        if (event.type === "response.created") id = event.response.id;
        show({ event });
        if (["response.completed", "response.failed", "response.incomplete"].includes(event.type)) return;
      }
    } catch {
      // the engine is gone: it is looked for below
    }
    for (let tries = 0; tries < 100; tries++) {
      await pause(100);
      try {
        stream = await client.responses.retrieve(id, { stream: true, starting_after: seen });
        break;
      } catch {
        continue;
      }
    }
  }
}

async function ai() {
  const provider = createOpenResponses({ name: "engine", url: `${url}/v1/responses`, apiKey: token });
  const chosen = provider(model);
  const tools = {
    where: tool({ description: "The place", inputSchema: z.object({ n: z.number() }), execute: async () => "home" }),
  };
  const prompt = steps([["where", { n: 1 }]], ["at ", null]);
  const ran = await generateText({ model: chosen, prompt, tools, stopWhen: stepCountIs(3) });
  show({ text: ran.text, steps: ran.steps.length });
  const streamed = streamText({ model: chosen, prompt: steps([{ think: "hm" }, "one ", "two"]) });
  const deltas = [];
  for await (const delta of streamed.textStream) deltas.push(delta);
  show({ deltas, text: await streamed.text, reasoning: await streamed.reasoningText });
  show({ total: (await streamed.totalUsage).totalTokens });
  const messages = [
    { role: "user", content: steps([{ think: "hm" }, "one ", "two"]) },
    ...(await streamed.response).messages,
    { role: "user", content: steps(["and so on"]) },
  ];
  show({ text: (await generateText({ model: chosen, messages })).text });
  const schema = z.object({ n: z.number() });
  show({ object: (await generateObject({ model: chosen, schema, prompt: steps(['{"n": 4}']) })).object });
  await generateText({ model: provider("none"), prompt: "a", maxRetries: 0 }).catch((error) => show({ error: error.message }));
}

await { acts, background, ai }[rest.at(-1)]();
