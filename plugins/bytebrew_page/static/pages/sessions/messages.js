// <bb-session-messages>: the messages of a session as a model is sent them.
import { html } from "../../vendor/lit-html/lit-html.js";
import { api, part } from "../../core/api.js";
import { bytes, clock, int, whole } from "../../core/format.js";
import { Resource } from "../../core/resource.js";
import { json, shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { code } from "../../parts/code.js";
import { time } from "../../parts/head.js";

/** @typedef {import("../../../api.ts").TurnRow} TurnRow */
/** @typedef {{ session: string, turn: TurnRow, through: string }} Data */
/** @typedef {import("../../../api.ts").Message} Entry */

const PAGE = 50;
const MOST = 4096;
/** @type {Record<string, string>} */
const ROLES = { user: "User", assistant: "Agent", tool: "Tool", system: "System" };

/** A text with its own spaces and line ends. @param {string} text @param {boolean} [mono] */
const words = (text, mono = false) => html`<div class="text ${mono ? "mono" : ""}">${shown(text)}</div>`;

class Messages extends View {
  /** @type {Data | null} */
  #data = null;
  #known = "";
  /** @type {Set<string>} */
  #whole = new Set();
  /** Number of messages that come before those that are shown. */
  #after = 0;
  /** @type {Resource<Entry[]>} */
  #page = new Resource(this, (signal) => this.#load(signal));

  /** @param {Data} data */
  set data(data) {
    this.#data = data;
    const known = `${data.session} ${data.through}`;
    if (known === this.#known) return;
    this.#known = known;
    this.#after = data.through ? Math.max(0, Number(data.through) - PAGE) : 0;
    if (this.isConnected) this.#page.reload();
  }

  start() {
    this.#page.reload();
  }

  /** @param {AbortSignal} signal */
  async #load(signal) {
    const { session, through } = /** @type {Data} */ (this.#data);
    const limit = through ? Math.max(1, Math.min(PAGE, Number(through) - this.#after)) : PAGE;
    return api.get(`/sessions/${part(session)}/messages`, { after: this.#after, limit }, signal);
  }

  /** @param {number} change */
  #turn(change) {
    this.#after = Math.max(0, this.#after + change);
    this.#page.reload();
  }

  draw() {
    const through = this.#data?.through;
    return html`<section class="said" aria-label="Messages">
      ${
        through
          ? html`<p class="meta">Up to message ${int(Number(through))}: what was there when the model was called.</p>`
          : ""
      }
      ${this.#page.shown((rows) =>
        rows.length
          ? html`${this.#after ? this.#more(`Messages before ${int(this.#after + 1)}`, -PAGE) : ""}
              <ol>
                ${rows.map((row) => this.#message(row))}
              </ol>
              ${!through && rows.length === PAGE ? this.#more(`Messages after ${int(this.#after + PAGE)}`, PAGE) : ""}`
          : html`<p class="meta">No message yet.</p>`,
      )}
    </section>`;
  }

  /** @param {string} words @param {number} change */
  #more(words, change) {
    return html`<button class="btn" type="button" @click=${() => this.#turn(change)}>${words}</button>`;
  }

  /** @param {Entry} row */
  #message(row) {
    const long = row.content.length > MOST && !this.#whole.has(row.id);
    return html`<li>
      <p class="row meta">
        <b>${row.role === "tool" && row.tool ? shown(row.tool) : (ROLES[row.role] ?? row.role)}</b>
        <span class="grow">${row.id}</span>${time(row.created_at, clock, whole)}
      </p>
      ${
        row.thinking
          ? html`<details>
              <summary>Thinking</summary>
              ${words(row.thinking)}
            </details>`
          : ""
      }
      ${row.content ? words(long ? row.content.slice(0, MOST) : row.content, row.role === "tool") : ""}
      ${
        long
          ? html`<button class="btn plain" type="button" @click=${() => (this.#whole.add(row.id), this.update())}>
              Show all ${bytes(row.content.length)}
            </button>`
          : ""
      }
      ${(row.tool_calls ?? []).map((call) => code(`Calls ${call.tool}`, json(call.input), JSON.stringify(call.input)))}
      ${(row.attachments ?? []).map(
        (file) => html`<p class="meta">${shown(file.name || file.media_type)}, ${file.media_type}</p>`,
      )}
    </li>`;
  }
}
customElements.define("bb-session-messages", Messages);
