// Callbacks: where the engine tells what happens, and what became of each delivery.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { api, part } from "../../core/api.js";
import { ago, whole } from "../../core/format.js";
import { Resource } from "../../core/resource.js";
import { setQuery } from "../../core/router.js";
import { marked, shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { bones } from "../../parts/bones.js";
import { sure } from "../../parts/dialog.js";
import { empty, head, time } from "../../parts/head.js";
import { state } from "../../parts/state.js";
import { table } from "../../parts/table.js";
import { askCallback } from "./forms.js";
import { places } from "./places.js";
import { shownOnce } from "./secret.js";

/** @typedef {import("../../../api.ts").Callback} Callback */
/** @typedef {import("../../../api.ts").CallbacksRoutesDelivery} Delivery */

const POLL = 5000;
/** @type {Record<Delivery["status"], [string, string]>} */
const STATES = { pending: ["queued", "pending"], delivered: ["ok", "delivered"], dead: ["failed", "given up"] };

class Callbacks extends View {
  #status = "";
  #error = "";
  /** @type {Resource<Callback[]>} */
  #callbacks = new Resource(this, (signal) => api.get("/callbacks", {}, signal));
  /** @type {Resource<{ data: Delivery[] }>} */
  #deliveries = new Resource(this, (signal) => api.get("/callbacks/deliveries", { status: this.#status }, signal));

  /** @param {string} status */
  set status(status) {
    const changed = status !== this.#status;
    this.#status = status;
    if (changed && this.isConnected) this.#deliveries.reload();
  }

  start() {
    this.#reload();
    this.every(POLL, () => this.#reload());
  }

  #reload() {
    this.#callbacks.reload();
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
    this.#reload();
  }

  /** @param {Callback | null} callback */
  async #ask(callback) {
    if (await askCallback(callback)) this.#reload();
  }

  /** @param {string} name */
  async #rotate(name) {
    const words = "The one before signs too for a day: give the receiver the new one until then.";
    if (!(await sure(`Replace the secret of ${name}`, words))) return;
    this.#do(async () => {
      const { secret } = await api.post(`/callbacks/${part(name)}/rotate`);
      await shownOnce(`Secret of ${name}`, secret, "The receiver checks signatures with it.");
    });
  }

  /** @param {string} name */
  async #delete(name) {
    if (await sure(`Delete callback ${name}`, "Its deliveries go with it, sent or not.")) {
      this.#do(() => api.delete(`/callbacks/${part(name)}`));
    }
  }

  #columns() {
    const acts = (/** @type {Callback} */ row) =>
      html`<span class="row end">
        <button
          class="btn plain"
          type="button"
          aria-label="${row.enabled ? "Turn off" : "Turn on"} ${row.name}"
          @click=${() => this.#do(() => api.patch(`/callbacks/${part(row.name)}`, { enabled: !row.enabled }))}
        >
          ${row.enabled ? "Turn off" : "Turn on"}
        </button>
        <button
          class="btn plain"
          type="button"
          aria-label="New secret for ${row.name}"
          @click=${() => this.#rotate(row.name)}
        >
          New secret
        </button>
        <button class="btn plain" type="button" aria-label="Delete ${row.name}" @click=${() => this.#delete(row.name)}>
          Delete
        </button>
      </span>`;
    /** @type {import("../../parts/table.js").Column<Callback>[]} */
    const columns = [
      {
        title: "Callback",
        cell: (row) =>
          html`<button class="opens" type="button" @click=${() => this.#ask(row)}>${shown(row.name)}</button>
            <span class="meta about url">${shown(row.url)}</span>`,
      },
      { title: "State", cell: stateOf },
      { title: "When", cell: (row) => html`<span class="dim">${row.events.join(", ")}</span>`, label: true },
      { title: "Last", cell: (row) => time(row.last_at, ago, whole), nowrap: true, label: true },
      { title: "What can be done", hidden: true, cell: acts },
    ];
    return columns;
  }

  #deliveryColumns() {
    /** @type {import("../../parts/table.js").Column<Delivery>[]} */
    const columns = [
      { title: "Event", cell: (row) => html`<b>${row.type}</b> <span class="meta about url">${shown(row.url)}</span>` },
      { title: "State", cell: (row) => state(...STATES[row.status]) },
      { title: "Tries", cell: (row) => row.attempts, num: true, label: true },
      {
        title: "Last answer",
        cell: (row) => html`<span class="dim two">${row.last_status ?? ""} ${shown(row.last_error ?? "")}</span>`,
      },
      { title: "Made", cell: (row) => time(row.created_at, ago, whole), num: true, nowrap: true },
      {
        title: "What can be done",
        hidden: true,
        cell: (row) =>
          row.status === "delivered"
            ? nothing
            : html`<button
                class="btn plain"
                type="button"
                aria-label="Send again: ${row.type} of ${row.created_at}"
                @click=${() => this.#do(() => api.post(`/callbacks/deliveries/${part(row.id)}/retry`))}
              >
                Send again
              </button>`,
      },
    ];
    return columns;
  }

  draw() {
    const make = html`<button class="btn first" type="button" @click=${() => this.#ask(null)}>New callback</button>`;
    return html`
      ${head("Callbacks", {
        words: "What happens is sent to other programs, signed, until they have it.",
        acts: html`${places("callbacks")} ${this.#callbacks.value?.length ? make : nothing}`,
      })}
      ${this.#error ? html`<div class="note fail" role="alert">${this.#error}</div>` : nothing}
      ${this.#callbacks.shown(
        (rows) =>
          rows.length
            ? table("Callbacks", this.#columns(), rows, (row) => row.name)
            : empty(
                "There is no callback yet",
                "One is told when a task has ended, a turn has failed, or a person is asked.",
                make,
              ),
        () => bones(["Callback", "State", "When"]),
      )}
      <section class="stack later" aria-label="Deliveries">
        <div class="row">
          <h2 class="grow">Deliveries</h2>
          ${this.#choice()}
        </div>
        ${this.#deliveries.shown(({ data }) =>
          data.length
            ? table("Deliveries", this.#deliveryColumns(), data, (row) => row.id)
            : html`<p class="dim">
                ${this.#status ? `No delivery is ${STATES[/** @type {Delivery["status"]} */ (this.#status)]?.[1]}.` : "Nothing was sent yet."}
              </p>`,
        )}
      </section>
    `;
  }

  #choice() {
    /** @param {Event} event */
    const choose = (event) => setQuery({ status: /** @type {HTMLSelectElement} */ (event.target).value });
    return html`<select class="narrow" aria-label="State of deliveries" @change=${choose}>
      <option value="">Any state</option>
      ${Object.entries(STATES).map(
        ([key, [, words]]) => html`<option value=${key} ?selected=${key === this.#status}>${words}</option>`,
      )}
    </select>`;
  }
}
customElements.define("bb-callbacks", Callbacks);

/** @param {Callback} row */
function stateOf(row) {
  if (!row.enabled)
    return html`<span title=${marked(row.disabled_because ?? "")}
      >${state("cancelled", row.disabled_because ? "turned off by failures" : "off")}</span
    >`;
  if (row.last_error) return html`<span title=${marked(row.last_error)}>${state("failed", "last one failed")}</span>`;
  return row.last_at ? state("ok", "works") : state("pending", "not called yet");
}
