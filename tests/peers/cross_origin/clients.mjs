// What the clients send must pass the preflight, and what they read of answers must be shown to them.
import { HttpAgent } from "@ag-ui/client";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import OpenAI from "openai";

const { url, token } = Object.fromEntries(new URLSearchParams(location.search));
const content = '[["Hello, ", "page."]]';

const clients = {
  async openai() {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: token, dangerouslyAllowBrowser: true, maxRetries: 0 });
    const models = (await client.models.list()).data.map((one) => one.id);
    const messages = [{ role: "user", content }];
    let text = "";
    for await (const chunk of await client.chat.completions.create({ model: "talk", messages, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? "";
    }
    const options = { idempotencyKey: "a key of the page", headers: { "OpenAI-Organization": "none" } };
    const response = await client.responses.create({ model: "talk", input: content }, options);
    const deleted = await client.responses.delete(response.id).then(() => true);
    const { status, requestID } = await client.chat.completions.create({ model: "nobodys", messages }).catch((error) => error);
    return { models, text, output: response.output_text, deleted, status, requestID: requestID.slice(0, 4) };
  },

  async agUi() {
    const agent = new HttpAgent({ url: `${url}/ag-ui/talk`, headers: { Authorization: `Bearer ${token}` } });
    agent.messages = [{ id: "m1", role: "user", content }];
    await agent.runAgent({});
    return agent.messages.at(-1).content;
  },

  async mcp() {
    const client = new Client({ name: "page", version: "1" });
    const requestInit = { headers: { Authorization: `Bearer ${token}` } };
    await client.connect(new StreamableHTTPClientTransport(new URL(`${url}/mcp`), { requestInit }));
    const answer = await client.callTool({ name: "talk", arguments: { message: content } });
    await client.close();
    return answer.content[0].text;
  },
};

const found = {};
for (const [name, use] of Object.entries(clients)) {
  found[name] = await use().catch((error) => ({ error: error.message }));
}
await fetch("/end", { method: "POST", body: JSON.stringify(found) });
