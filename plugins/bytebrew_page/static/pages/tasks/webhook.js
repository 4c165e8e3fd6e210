// One webhook: how it is called, and what its last requests were answered.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { api, part } from "../../core/api.js";
import { ago, whole } from "../../core/format.js";
import { Resource } from "../../core/resource.js";
import { go, to } from "../../core/router.js";
import { shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { code } from "../../parts/code.js";
import { sure } from "../../parts/dialog.js";
import { empty, head, time } from "../../parts/head.js";
import { state } from "../../parts/state.js";
import { table } from "../../parts/table.js";
import { askWebhook } from "./forms.js";
import { crumb } from "./places.js";
import { stateOf } from "./webhooks.js";

/** @typedef {import("../../../api.ts").Webhook} Webhook */
/** @typedef {import("../../../api.ts").TriggersDeliveriesDelivery} Delivery */

const POLL = 5000;

/** @type {import("../../parts/table.js").Column<Delivery>[]} */
const COLUMNS = [
  { title: "Request", cell: (row) => time(row.at, ago, whole), nowrap: true },
  {
    title: "Answer",
    cell: (row) => state(row.status < 300 ? "ok" : "failed", `${row.status} ${row.status < 300 ? "taken" : "refused"}`),
  },
  {
    title: "What came of it",
    cell: ({ task_id, reason }) =>
      task_id
        ? html`<a href=${to`/tasks/${task_id}`}>a task</a>`
        : html`<span class="dim">${shown(reason ?? "")}</span>`,
  },
];

class WebhookView extends View {
  name = "";
  #error = "";
  /** @type {Resource<Webhook>} */
  #webhook = new Resource(this, (signal) => api.get(`/webhooks/${part(this.name)}`, {}, signal));
  /** @type {Resource<Delivery[]>} */
  #deliveries = new Resource(this, (signal) => api.get(`/webhooks/${part(this.name)}/deliveries`, {}, signal));

  start() {
    this.#reload();
    this.live(["task", "config"], () => this.#reload());
    this.every(POLL, () => this.#deliveries.reload()); // a refused request changes nothing that would be told
  }

  #reload() {
    this.#webhook.reload();
    this.#deliveries.reload();
  }

  /** @param {() => Promise<any>} act */
  async #do(act) {
    this.#error = "";
    try {
      await act();
    } catch (error) {
      this.#error = /** @type {Error} */ (error).message;
    }
    this.#webhook.reload();
  }

  /** @param {Webhook} webhook */
  async #edit(webhook) {
    if (await askWebhook(webhook)) this.#reload();
  }

  async #delete() {
    if (!(await sure(`Delete webhook ${this.name}`, "Its senders are refused. The tasks that it made stay."))) return;
    this.#do(async () => {
      await api.delete(`/webhooks/${part(this.name)}`);
      go("/tasks/webhooks");
    });
  }

  /** @param {Webhook} webhook */
  #acts(webhook) {
    const toggle = () => api.patch(`/webhooks/${part(this.name)}`, { enabled: !webhook.enabled });
    return html`<button class="btn" type="button" @click=${() => this.#edit(webhook)}>Change</button>
      <button class="btn" type="button" @click=${() => this.#do(toggle)}>
        ${webhook.enabled ? "Turn off" : "Turn on"}
      </button>
      <button class="btn no" type="button" @click=${() => this.#delete()}>Delete</button>`;
  }

  draw() {
    const webhook = this.#webhook.value;
    const example = signed(this.name);
    return html`
      ${head(shown(this.name), { crumb: crumb("webhooks"), acts: webhook ? this.#acts(webhook) : nothing })}
      ${this.#error ? html`<div class="note fail" role="alert">${this.#error}</div>` : nothing}
      ${this.#webhook.shown(
        (one) =>
          html`<p class="row wrap factline">
            ${stateOf(one)} <a href=${to`/agents/${one.agent}`}>agent ${shown(one.agent)}</a>
            ${one.last_task_id ? html`<a href=${to`/tasks/${one.last_task_id}`}>last task</a>` : nothing}
          </p>`,
      )}
      <div class="stack">
        ${code("A signed request, by curl", example, example)}
        <section class="stack" aria-label="Deliveries">
          <h2>Last deliveries</h2>
          ${this.#deliveries.shown((rows) =>
            rows.length
              ? table("Deliveries", COLUMNS, rows, (row) => `${row.at} ${row.status} ${row.task_id}`)
              : empty("No request has come yet", "Send the one above: what it was answered stands here, and why."),
          )}
        </section>
      </div>
    `;
  }
}
customElements.define("bb-webhook", WebhookView);

/** @param {string} name */
const signed = (name) => `BODY='{"id": 7}'
STAMP=$(date +%s)
SIGNATURE=$(printf '%s.%s' "$STAMP" "$BODY" | openssl dgst -sha256 -hmac "$SECRET" -r | cut -d' ' -f1)
curl ${location.origin}/api/v1/webhooks/${name} \\
  -H "X-Webhook-Timestamp: $STAMP" \\
  -H "X-Webhook-Signature: sha256=$SIGNATURE" \\
  -d "$BODY"`;
