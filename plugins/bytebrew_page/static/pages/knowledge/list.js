// The list of knowledge bases.
import { html } from "../../vendor/lit-html/lit-html.js";
import { api } from "../../core/api.js";
import { may } from "../../core/caller.js";
import { ago, int, whole } from "../../core/format.js";
import { Resource } from "../../core/resource.js";
import { to } from "../../core/router.js";
import { shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { bones } from "../../parts/bones.js";
import { empty, head, time } from "../../parts/head.js";
import { state } from "../../parts/state.js";
import { table } from "../../parts/table.js";
import { newBase } from "./form.js";

/** @typedef {import("../../../api.ts").Base} Base */

const POLL = 2000;

/** @type {import("../../parts/table.js").Column<Base>[]} */
const COLUMNS = [
  {
    title: "Base",
    cell: (row) =>
      html`<a class="main" href=${to`/knowledge/${row.name}`}>${shown(row.name)}</a>
        <span class="meta about">${shown(row.description)}</span>`,
  },
  { title: "State", cell: stateOf },
  { title: "Files", cell: (row) => int(row.file_count), num: true, label: true },
  {
    title: "Finds",
    cell: (row) =>
      html`<span class="dim">${row.embedding_model ? `words and meanings, ${row.embedding_model}` : "words"}</span>`,
    label: true,
  },
  {
    title: "Agents",
    cell: (row) => html`<span class="dim">${row.linked_agents.join(", ") || "none"}</span>`,
    label: true,
  },
  { title: "Changed", cell: (row) => time(row.updated_at, ago, whole), num: true, nowrap: true },
];

/** @param {Base} base */
export function stateOf(base) {
  if (base.failed_files) return state("failed", `${int(base.failed_files)} failed`);
  if (base.status === "indexing")
    return state("running", `${int(base.indexed_files)} of ${int(base.file_count)} indexed`);
  return base.status === "ready" ? state("ok", "ready") : state("pending", "no files yet");
}

class Bases extends View {
  /** @type {Resource<Base[]>} */
  #bases = new Resource(this, (signal) => api.get("/knowledge-bases", {}, signal));

  start() {
    this.#bases.reload();
    this.live(["config"], () => this.#bases.reload());
    this.every(POLL, () => this.#bases.value?.some((base) => base.status === "indexing") && this.#bases.reload());
  }

  draw() {
    const make = may("agents:write")
      ? html`<button class="btn first" type="button" @click=${newBase}>New base</button>`
      : "";
    return html`
      ${head("Knowledge", {
        words: "Files that agents search before they answer, and why a search finds what it finds.",
        acts: this.#bases.value?.length ? make : "",
      })}
      ${this.#bases.shown(
        (rows) =>
          rows.length
            ? table("Knowledge bases", COLUMNS, rows, (row) => row.id)
            : empty(
                "There is no knowledge base yet",
                "A base holds files, such as a handbook. An agent that is linked to it searches them by itself.",
                make,
              ),
        () => bones(COLUMNS.map((column) => column.title)),
      )}
    `;
  }
}
customElements.define("bb-bases", Bases);
