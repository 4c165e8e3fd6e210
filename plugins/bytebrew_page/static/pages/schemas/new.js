// The dialog that makes a schema.
import { html } from "../../vendor/lit-html/lit-html.js";
import { api } from "../../core/api.js";
import { go, to } from "../../core/router.js";
import { askForm } from "../../parts/form_dialog.js";

/** Asks for a name and an agent, makes the schema, and opens it. */
export async function newSchema() {
  /** @type {{ name: string }[]} */
  const agents = await api.get("/agents").catch(() => []);
  /** @type {import("../../parts/form_dialog.js").Field[]} */
  const fields = [
    {
      name: "name",
      label: "Name",
      hint: "name: lower-case letters, digits and dashes; it is part of the URL and fixed",
    },
    {
      name: "entry_agent",
      label: "Who answers first",
      hint: agents.length ? "entry_agent" : html`There is no agent yet. <a href="/agents">Make one</a> first.`,
      kind: "choice",
      options: agents.map(({ name }) => [name, name]),
    },
    { name: "chat_enabled", label: "Chat is on", kind: "box" },
  ];
  const made = await askForm("New schema", fields, {
    values: { name: "", entry_agent: agents[0]?.name ?? "", chat_enabled: true },
    act: "Make schema",
    send: (values) => api.post("/schemas", values),
  });
  if (made) go(to`/schemas/${made.name}`);
  return made?.name;
}
