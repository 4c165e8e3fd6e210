// The events of one message, a line of JSON each: node transcript.mjs URL TOKEN MESSAGE [OPTIONS]
import { Client } from "bytebrew-client";

const [url, token, message, options = "{}"] = process.argv.slice(2);
const client = new Client({ url, token });
const turn = client.chat("talk", message, JSON.parse(options));
for await (const event of turn) console.log(JSON.stringify(event));
console.log(JSON.stringify({ text: turn.textSoFar, session: turn.sessionId }));
