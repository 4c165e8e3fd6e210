// Ready lines for everybody who wants to talk to a schema.
import { html } from "../../vendor/lit-html/lit-html.js";
import { setQuery } from "../../core/router.js";
import "../../parts/code.js";

/** @param {string} schema @param {string} origin @returns {Record<string, string>} */
const examples = (schema, origin) => ({
  curl: `curl -N ${origin}/api/v1/schemas/${schema}/chat \\
  -H "Authorization: Bearer $BYTEBREW_TOKEN" \\
  -H "Content-Type: application/json" \\
  -d '{"message": "Hello"}'`,
  Python: `import os
from bytebrew_client import Client

client = Client("${origin}", os.environ["BYTEBREW_TOKEN"])
print(client.chat("${schema}", "Hello").text())`,
  TypeScript: `import { Client } from "bytebrew-client";

const client = new Client({ url: "${origin}", token: process.env.BYTEBREW_TOKEN! });
console.log(await client.chat("${schema}", "Hello").text());`,
  "OpenAI client": `import os
from openai import OpenAI

client = OpenAI(base_url="${origin}/v1", api_key=os.environ["BYTEBREW_TOKEN"])
stream = client.chat.completions.create(
    model="${schema}", messages=[{"role": "user", "content": "Hello"}], stream=True
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="")`,
  MCP: `claude mcp add --transport http bytebrew ${origin}/mcp \\
  --header "Authorization: Bearer $BYTEBREW_TOKEN"

# or in a file of servers; the tool is ${schema}
{
  "mcpServers": {
    "bytebrew": {
      "type": "http",
      "url": "${origin}/mcp",
      "headers": { "Authorization": "Bearer \${BYTEBREW_TOKEN}" }
    }
  }
}`,
  "Script tag": `<script type="module" src="${origin}/widget.js"></script>
<bytebrew-chat schema="${schema}" token="YOUR_PUBLIC_TOKEN" label="Ask us"></bytebrew-chat>`,
});

/** What each needs, in words. @type {Record<string, string>} */
const WORDS = {
  Python: "The client is in clients/python; make dist builds it.",
  TypeScript: "The client is in clients/typescript; make dist builds it.",
  "OpenAI client": "Any client of Chat Completions or Responses; the schema is the model.",
  MCP: "For assistants and editors: each schema is a tool.",
  "Script tag":
    "A public token is for everybody who sees the page. BYTEBREW_CORS_ORIGINS lists the origins that may use it.",
};

/** The names in the address, such as `connect=curl`. @param {string} name */
const slug = (name) => name.toLowerCase().replace(" ", "-");

/** @param {string} schema @param {string} chosen */
export function connect(schema, chosen) {
  const all = examples(schema, location.origin);
  const name = Object.keys(all).find((one) => slug(one) === chosen) ?? "curl";
  const purpose = name === "Script tag" ? "website" : "server";
  return html`
    <bb-examples
      .examples=${all}
      .chosen=${name}
      @chosen=${(/** @type {CustomEvent<string>} */ event) => setQuery({ connect: slug(event.detail) })}
    ></bb-examples>
    <p class="row wrap">
      <a class="btn" href=${`/keys?new=1&purpose=${purpose}&schema=${encodeURIComponent(schema)}`}
        >Make a key for this</a
      >
      <span class="meta">${WORDS[name] ?? ""}</span>
    </p>
  `;
}
