// The dialog that makes an agent: a name and what it is for; the editor has the rest.
import { api } from "../../core/api.js";
import { go, to } from "../../core/router.js";
import { askForm } from "../../parts/form_dialog.js";

const FIELDS = [
  { name: "name", label: "Name", hint: "name: lower-case letters, digits, dots, dashes; it is fixed" },
  {
    name: "description",
    label: "What it is for",
    hint: "description: for people and for agents that may ask it",
  },
];

/** Asks for a name, makes the agent, and opens its editor. */
export async function newAgent() {
  const made = await askForm("New agent", FIELDS, {
    values: { name: "", description: "" },
    act: "Make agent",
    send: (values) => api.post("/agents", values),
  });
  if (made) go(to`/agents/${made.name}`);
}
