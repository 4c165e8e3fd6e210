// Streams one answer: node chat.mjs URL TOKEN SCHEMA MESSAGE. Works in a browser as it does in Node 20.
const [url, token, schema, message] = process.argv.slice(2);
if (!message) throw new Error("Usage: node chat.mjs URL TOKEN SCHEMA MESSAGE");

const response = await fetch(`${url}/api/v1/schemas/${schema}/chat`, {
  method: "POST",
  headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
  body: JSON.stringify({ message }),
});
if (!response.ok) throw new Error((await response.json()).message);

let rest = "";
let ended = false;
for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
  const frames = (rest + chunk).split("\n\n");
  rest = frames.pop();
  for (const frame of frames) {
    if (frame.startsWith(":")) continue; // a comment: the greeting or a heartbeat
    const fields = Object.fromEntries(frame.split("\n").map((line) => line.split(/: (.*)/s, 2)));
    const data = JSON.parse(fields.data);
    if (fields.event === "message_delta") process.stdout.write(data.content);
    if (fields.event === "error") throw new Error(data.message);
    if (fields.event === "done") {
      process.stdout.write("\n");
      ended = true;
    }
  }
}
if (!ended) throw new Error("The connection broke off: GET the session's events, behind the last id that was seen");
