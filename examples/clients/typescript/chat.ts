// One message at the terminal, with bytebrew-client: BYTEBREW_TOKEN=... node chat.js SCHEMA MESSAGE
import { createInterface } from "node:readline";
import { Client, type Chat, type ConfirmationAsked, type Verdict } from "bytebrew-client";

const { BYTEBREW_URL: url = "http://127.0.0.1:8443", BYTEBREW_TOKEN: token = "" } = process.env;
const [schema, message] = process.argv.slice(2);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const print = (text: string) => process.stdout.write(text);

/** Asks the person about a call: what is no yes is a no. Other arguments come as `{ answer, input }`. */
async function onConfirmation(question: ConfirmationAsked): Promise<Verdict> {
  const choice = question.kind === "unknown_outcome" ? "retry, mark_done or fail?" : "May it run?";
  print(`\n[${question.tool} ${JSON.stringify(question.input)}] ${choice} `);
  const line = ((await lines.next()).value ?? "").trim();
  if (question.kind === "unknown_outcome") return line === "retry" || line === "mark_done" ? line : "fail";
  return /^y(es)?$/i.test(line) ? "approve" : "reject";
}

/** Prints a turn; the client connects again where a connection is lost, and each event comes once. */
async function show(chat: Chat): Promise<void> {
  for await (const event of chat) {
    switch (event.event) {
      case "message_delta":
        print(event.data.content);
        break;
      case "message_restart": // after a restart of the engine the model gave another answer
        print(`\n[again]\n${event.data.content}`);
        break;
      case "error":
        throw new Error(`${event.data.code}: ${event.data.message}`);
      case "done":
        print("\n");
        break;
    }
  }
}

if (!schema || !message) throw new Error("Usage: BYTEBREW_TOKEN=... node chat.js SCHEMA MESSAGE");
try {
  await show(new Client({ url, token }).chat(schema, message, { onConfirmation }));
} catch (error) {
  console.error(`\n[${error instanceof Error ? error.message : error}]`);
  process.exitCode = 1;
}
process.stdin.destroy();
