// Acts of MCP's official clients for TypeScript: "v1" is @modelcontextprotocol/sdk, "auto" and "legacy" are the modes of
// @modelcontextprotocol/client. Prints a line of JSON for each thing learned.
// Arguments: URL, token, mode, act.
const [url, token, mode, act, ...rest] = process.argv.slice(2);
const say = (found) => console.log(JSON.stringify(found));
const endpoint = new URL(`${url}/mcp`);
const requestInit = { headers: { Authorization: `Bearer ${token}` } };
const about = { name: "peer", version: "1" };
const approve = async (request) => {
  say({ asked: request.params.message });
  return { action: "accept", content: { decision: "approve" } };
};

async function connected() {
  if (mode === "v1") {
    const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
    const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
    const { ElicitRequestSchema } = await import("@modelcontextprotocol/sdk/types.js");
    const client = new Client(about, { capabilities: { elicitation: {} } });
    client.setRequestHandler(ElicitRequestSchema, approve);
    const transport = new StreamableHTTPClientTransport(endpoint, { requestInit });
    await client.connect(transport);
    const call = (input, options) => client.callTool({ name: "talk", arguments: input }, undefined, options);
    return { client, transport, call };
  }
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  const client = new Client(about, { capabilities: { elicitation: {} }, versionNegotiation: { mode } });
  client.setRequestHandler("elicitation/create", approve);
  const transport = new StreamableHTTPClientTransport(endpoint, { requestInit });
  await client.connect(transport);
  return { client, transport, call: (input, options) => client.callTool({ name: "talk", arguments: input }, options) };
}

const { client, transport, call } = await connected();
if (act === "acts") {
  say({ version: transport.protocolVersion, server: client.getServerVersion().name });
  say({ tools: (await client.listTools()).tools.map((tool) => tool.name) });
  const first = await call({ message: '[["Hello"]]' });
  say({ text: first.content[0].text, structured: first.structuredContent });
  const again = { message: '[["more"]]', session_id: first.structuredContent.session_id };
  say({ text: (await call(again)).content[0].text });
  const progress = [];
  const onprogress = (one) => progress.push(one.progress);
  const result = await call({ message: '[[["weather", {"city": "Oslo"}]], ["So: ", null]]' }, { onprogress });
  say({ text: result.content[0].text, progress });
  say({ text: (await call({ message: '[[["pay", {"amount": 3}]], [null]]' })).content[0].text });
  say({ is_error: (await call({ message: "hi", session_id: "nothing" })).isError });
  await client.callTool({ name: "nothing", arguments: {} }).catch((error) => say({ code: error.code }));
  const abort = new AbortController();
  setTimeout(() => abort.abort("enough"), 700);
  await call({ message: "count" }, { signal: abort.signal }).catch(() => say({ left: true }));
  await new Promise((resolve) => setTimeout(resolve, 300));
} else if (act === "task") {
  const input = { name: "talk", arguments: { message: rest[0] } };
  for await (const one of client.experimental.tasks.callToolStream(input, undefined, { task: { ttl: 60000 } })) {
    if (one.type === "taskCreated") say({ task: one.task.taskId });
    else if (one.type === "taskStatus") say({ status: one.task.status });
    else if (one.type === "result") say({ text: one.result.content[0].text, session: one.result.structuredContent.session_id });
    else say(one);
  }
} else {
  const options = { onprogress: (one) => say({ progress: one.progress }) };
  const result = await call({ message: rest[0] }, options);
  say({ text: result.content[0].text, session: result.structuredContent.session_id });
}
await client.close();
