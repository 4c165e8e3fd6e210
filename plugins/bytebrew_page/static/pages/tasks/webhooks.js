// Webhooks: what makes tasks when another program sends a signed request.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { api } from "../../core/api.js";
import { ago, whole } from "../../core/format.js";
import { Resource } from "../../core/resource.js";
import { go, to } from "../../core/router.js";
import { shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { bones } from "../../parts/bones.js";
import { empty, head, time } from "../../parts/head.js";
import { state } from "../../parts/state.js";
import { table } from "../../parts/table.js";
import { askWebhook } from "./forms.js";
import { places } from "./places.js";

/** @typedef {import("../../../api.ts").Webhook} Webhook */

/** @type {import("../../parts/table.js").Column<Webhook>[]} */
const COLUMNS = [
  {
    title: "Webhook",
    cell: (row) =>
      html`<a class="main" href=${to`/tasks/webhooks/${row.name}`}>${shown(row.name)}</a>
        <span class="meta about">${shown(row.title)}</span>`,
  },
  { title: "State", cell: stateOf },
  { title: "Agent", cell: (row) => html`<a href=${to`/agents/${row.agent}`}>${shown(row.agent)}</a>`, label: true },
  { title: "Last error", cell: (row) => html`<span class="err two">${shown(row.last_error ?? "")}</span>` },
  { title: "Last request", cell: (row) => time(row.last_at, ago, whole), num: true, nowrap: true, label: true },
];

/** @param {Webhook} row */
export function stateOf(row) {
  if (!row.enabled) return state("cancelled", "off");
  if (row.last_error) return state("failed", "last one failed");
  return row.last_at ? state("ok", "works") : state("pending", "not called yet");
}

class Webhooks extends View {
  /** @type {Resource<Webhook[]>} */
  #webhooks = new Resource(this, (signal) => api.get("/webhooks", {}, signal));

  start() {
    this.#webhooks.reload();
    this.live(["task", "config"], () => this.#webhooks.reload());
  }

  async #make() {
    const made = await askWebhook(null);
    if (made) go(to`/tasks/webhooks/${made.name}`);
  }

  draw() {
    const make = html`<button class="btn first" type="button" @click=${() => this.#make()}>New webhook</button>`;
    return html`
      ${head("Webhooks", {
        words: "Each signed request to a webhook gives its agent a task.",
        acts: html`${places("webhooks")} ${this.#webhooks.value?.length ? make : nothing}`,
      })}
      ${this.#webhooks.shown(
        (rows) =>
          rows.length
            ? table("Webhooks", COLUMNS, rows, (row) => row.name)
            : empty(
                "There is no webhook yet",
                "One takes signed requests of another program, such as a shop's new orders.",
                make,
              ),
        () => bones(["Webhook", "State", "Agent"]),
      )}
    `;
  }
}
customElements.define("bb-webhooks", Webhooks);
