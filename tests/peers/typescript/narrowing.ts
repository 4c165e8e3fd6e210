// Compiles only if `event` says what `data` is, and the cases below are all that there are.
import { type ChatEvent, Client, type ConfirmationAsked } from "bytebrew-client";

export function text(one: ChatEvent): string {
  switch (one.event) {
    case "thinking":
    case "message_delta":
    case "message_restart":
    case "message":
      return one.data.content;
    case "tool_call":
    case "client_tool_call":
      return one.data.tool + JSON.stringify(one.data.input);
    case "tool_result":
      return one.data.has_error ? "failed" : one.data.output;
    case "notice":
    case "error":
      return one.data.code + one.data.message;
    case "confirmation":
      // @ts-expect-error the public view has no `tool`
      return one.data.tool.toUpperCase();
    case "queued":
      return one.data.position.toFixed();
    case "steer":
      return one.data.message;
    case "steered":
      return one.data.turn_id;
    case "summarised":
    case "context_trimmed":
      return one.data.messages.toFixed();
    case "done":
      return one.data.usage?.output_tokens.toFixed() ?? one.data.finish_reason;
    case "structured_output":
      return one.data.output_type === "form" ? (one.data.questions ?? []).map((each) => each.id).join() : "";
    case "unknown":
      // @ts-expect-error nothing is known of its data
      return one.name + one.data.content;
    default:
      return one satisfies never;
  }
}

const client = new Client({ url: "http://127.0.0.1:1" });
const onConfirmation = (question: ConfirmationAsked) => (question.risk === "safe" ? ("approve" as const) : undefined);
client.chat("support", "Hello", { on_busy: "steer", onConfirmation });
client.chat("support", { form: { size: "L" } }, { session_id: "x" });
// @ts-expect-error no such way
client.chat("support", "Hello", { on_busy: "perhaps" });
// @ts-expect-error no such option
client.chat("support", "Hello", { temperature: 1 });
