// A page with `useChat` as its documentation has it, against an engine of another origin; nothing else is behind it.
import { useChat } from "@ai-sdk/react";
import {
  DefaultChatTransport,
  lastAssistantMessageIsCompleteWithApprovalResponses,
  lastAssistantMessageIsCompleteWithToolCalls,
} from "ai";
import { useState } from "react";
import { createRoot } from "react-dom/client";

const given = new URLSearchParams(location.search);
const api = given.get("api");
const id = given.get("id");
const headers = { Authorization: `Bearer ${given.get("token")}` };
const tools = { where_am_i: { description: "The place of the user", inputSchema: { type: "object", properties: {} } } };
window.runs = 0;

function Call({ part, answer }) {
  return (
    <div className="call">
      <b>{part.type.slice(5)}</b> {JSON.stringify(part.input)} <i>{part.state}</i>{" "}
      {part.state === "approval-requested" && (
        <>
          <button onClick={() => answer({ id: part.approval.id, approved: true })}>Approve</button>
          <button onClick={() => answer({ id: part.approval.id, approved: false, reason: "not today" })}>Reject</button>
        </>
      )}
      {part.output !== undefined && <code>{JSON.stringify(part.output)}</code>} {part.errorText}
    </div>
  );
}

function Part({ part, answer }) {
  if (part.type === "text") return <p>{part.text}</p>;
  if (part.type === "reasoning")
    return (
      <details>
        <summary>Thinking</summary>
        {part.text}
      </details>
    );
  if (part.type === "data-table")
    return (
      <table>
        <caption>{part.data.title}</caption>
        <tbody>
          {part.data.rows.map((row) => (
            <tr key={row.label}>
              <th>{row.label}</th>
              <td>{String(row.value)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    );
  return part.type.startsWith("tool-") ? <Call part={part} answer={answer} /> : null;
}

function Page({ before }) {
  const [text, setText] = useState("");
  const chat = useChat({
    id,
    messages: before,
    resume: true,
    transport: new DefaultChatTransport({ api, headers, body: { tools } }),
    sendAutomaticallyWhen: (one) =>
      lastAssistantMessageIsCompleteWithToolCalls(one) || lastAssistantMessageIsCompleteWithApprovalResponses(one),
    onToolCall({ toolCall }) {
      if (toolCall.toolName !== "where_am_i") return;
      window.runs += 1;
      chat.addToolOutput({ tool: "where_am_i", toolCallId: toolCall.toolCallId, output: { city: "Zürich" } });
    },
  });
  window.chat = chat;
  const stop = () => {
    fetch(`${api}/${id}/stop`, { method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: "{}" });
    chat.stop();
  };
  return (
    <main>
      {chat.messages.map((message) => (
        <section key={message.id} className={message.role}>
          {message.parts.map((part, n) => (
            <Part key={n} part={part} answer={chat.addToolApprovalResponse} />
          ))}
        </section>
      ))}
      {chat.error && <p className="error">{chat.error.message}</p>}
      <form
        onSubmit={(event) => {
          event.preventDefault();
          chat.sendMessage({ text });
          setText("");
        }}
      >
        <input value={text} onChange={(event) => setText(event.target.value)} />
        <button>Send</button>
        <button type="button" onClick={stop}>
          Stop
        </button>
        <button type="button" onClick={() => chat.regenerate()}>
          Regenerate
        </button>
        <i>{chat.status}</i>
      </form>
    </main>
  );
}

const { messages } = await (await fetch(`${api}/${id}`, { headers })).json();
createRoot(document.getElementById("root")).render(<Page before={messages} />);
