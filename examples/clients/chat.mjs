// One message at the terminal, with its questions and forms: BYTEBREW_TOKEN=... node chat.mjs SCHEMA MESSAGE
import { createInterface } from "node:readline";
import { Conversation, Refused } from "./bytebrew.mjs";

const { BYTEBREW_URL: url = "http://127.0.0.1:8443", BYTEBREW_TOKEN: token = "" } = process.env;
const [schema, message] = process.argv.slice(2);
if (!message) throw new Error("Usage: BYTEBREW_TOKEN=... node chat.mjs SCHEMA MESSAGE");

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const conversation = new Conversation(url, token, schema);
const print = (words) => process.stdout.write(words);

async function prompt(words) {
  print(`${words} `);
  return ((await lines.next()).value ?? "").trim();
}

function parsed(words) {
  try {
    return JSON.parse(words);
  } catch {
    return undefined;
  }
}

async function answer(question) {
  print(`\n[${question.tool}, ${question.risk}: ${JSON.stringify(question.input)}]\n`);
  const words = question.kind === "unknown_outcome" ? "retry, mark_done or fail?" : "May it run? yes, no, or JSON";
  const said = await prompt(words);
  const edited = said.startsWith("{") ? parsed(said) : undefined; // what is no JSON is no yes either
  try {
    await conversation.respond(question, edited ? "approve" : said || "no", { input: edited });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    console.error(`[${error.message}]`); // somebody else has answered: the stream says what came of it
  }
}

async function filledIn(form) {
  const answers = {};
  for (const { id, label, type, options = [] } of form.questions) {
    const said = await prompt(`${label}${options.length ? ` (${options.map((one) => one.value).join(", ")})` : ""}:`);
    if (said) answers[id] = type === "multiselect" ? said.split(",").map((one) => one.trim()) : said;
  }
  return { form: answers };
}

async function turn(said) {
  let form;
  for await (const { event, data } of conversation.say(said)) {
    if (event === "message_delta") print(data.content);
    else if (event === "message_restart") print(`\n[again]\n${data.content}`);
    else if (event === "tool_call") print(`\n[${data.tool} ${JSON.stringify(data.input)}]\n`);
    else if (event === "queued") print(data.needs_input ? "[waits for a question]\n" : "[waits for its turn]\n");
    else if (event === "confirmation") await answer(data);
    else if (event === "structured_output") {
      print(`\n${[data.title, data.description].filter(Boolean).join("\n")}\n`);
      for (const { label, value } of data.rows ?? []) print(`  ${label}: ${value}\n`);
      if (data.output_type === "form") form = data;
    } else if (event === "error") throw new Error(`${data.code}: ${data.message}`);
    else if (event === "done") print(data.finish_reason === "max_tokens" ? "\n[the model came to its token limit]\n" : "\n");
  }
  return form;
}

try {
  for (let form = await turn(message); form; ) form = await turn(await filledIn(form));
} catch (error) {
  console.error(`[${error.message}]`);
  process.exitCode = 1;
}
lines.return();
process.stdin.destroy();
