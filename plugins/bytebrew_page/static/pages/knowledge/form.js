// The form of a knowledge base.
import { api, part } from "../../core/api.js";
import { go, to } from "../../core/router.js";
import { askForm, changed } from "../../parts/form_dialog.js";

/** @typedef {import("../../../api.ts").Base} Base */
/** @typedef {import("../../../api.ts").Model} Model */

/** @param {Base | null} base */
async function fields(base) {
  /** @type {Model[]} */
  const models = await api.get("/models").catch(() => []);
  const names = models.filter((model) => model.kind === "embedding").map((model) => model.name);
  const known = base?.embedding_model && !names.includes(base.embedding_model) ? [base.embedding_model] : [];
  return /** @type {import("../../parts/form_dialog.js").Field[]} */ ([
    { name: "name", label: "Name", hint: "name: how agents and the address know it" },
    {
      name: "description",
      label: "What it holds",
      kind: "area",
      hint: "description: agents read it before they search",
    },
    {
      name: "embedding_model",
      label: "Model for meanings",
      kind: "choice",
      options: [["", "none: it finds words alone"], ...[...known, ...names].map((name) => [name, name])],
      hint: "embedding_model, of kind embedding; another one has every file indexed again",
    },
  ]);
}

/** Makes a base, and opens it. */
export async function newBase() {
  const made = await askForm("New knowledge base", await fields(null), {
    words: "Files that agents search. The names of files and what they say stay in this engine.",
    values: { name: "", description: "", embedding_model: "" },
    act: "Make base",
    send: (values) => api.post("/knowledge-bases", { ...values, embedding_model: values.embedding_model || null }),
  });
  if (made) go(to`/knowledge/${made.name}`);
}

/** Changes a base; gives it as it is then. @param {Base} base @returns {Promise<Base | undefined>} */
export async function editBase(base) {
  const values = {
    name: base.name,
    description: base.description,
    embedding_model: base.embedding_model ?? "",
  };
  return askForm(`Change ${base.name}`, await fields(base), {
    values,
    act: "Save",
    send: (given) => {
      const patch = changed(given, values);
      if ("embedding_model" in patch) patch.embedding_model ||= null;
      return api.patch(`/knowledge-bases/${part(base.id)}`, patch);
    },
  });
}
