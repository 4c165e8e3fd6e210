// A client whose types are made from the API's document alone; it says what it found, or does not compile.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { argv: string[] };
declare const console: { log(words: string): void };

type Frame = components["schemas"]["StreamEvent"];

function told(frame: Frame): string {
  switch (frame.event) {
    case "message_delta":
    case "tool_call":
    case "structured_output":
      return frame.data;
    case "error":
      return `failed: ${frame.data}`;
    default:
      return "";
  }
}

const [, , baseUrl, token] = process.argv;
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });

const made = await client.POST("/api/v1/agents", { body: { name: "typed", model: "demo" } });
if (made.error) throw new Error(made.error.message);
const steps: number = made.data.max_steps;

const changed = await client.PUT("/api/v1/agents/{name}", {
  params: { path: { name: "typed" } },
  body: { description: "Made of types" },
});
if (changed.error) throw new Error(changed.error.message);

const server: components["schemas"]["NewServer"] = { name: "files", url: "http://127.0.0.1:1/mcp" };
const schema: components["schemas"]["NewSchema"] = { name: "typed", entry_agent: "typed", chat_enabled: true };
await client.POST("/api/v1/schemas", { body: schema });

const page = await client.GET("/api/v1/agents", { params: { query: { limit: 1, offset: 1 } } });
if (!page.data || Array.isArray(page.data)) throw new Error("no page");

const answer = await client.POST("/api/v1/schemas/{name}/chat", {
  params: { path: { name: "typed" } },
  body: { message: "Hello", stream: false },
});
if (answer.error || !answer.data || typeof answer.data === "string" || !("message" in answer.data)) {
  throw new Error("no answer");
}
const tokens: number = answer.data.usage.output_tokens;
const frame: Frame = { event: "message_delta", data: '{"content":"Hi"}' };
console.log(JSON.stringify([steps, changed.data.description, server.name, page.data.total, tokens > 0, told(frame)]));
