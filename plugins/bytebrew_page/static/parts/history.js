// The versions of an item of the configuration: what each changed, and the way back.
//
//   html`<bb-history .path=${to`/schemas/${name}`} .stamp=${tag} .writable=${may("schemas:write")} @rolledback=${again}></bb-history>`
//
// `path` is the item's in the API; it loads anew whenever `stamp` is another one.
import { html } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { api } from "../core/api.js";
import { ago, whole } from "../core/format.js";
import { failed, Resource } from "../core/resource.js";
import { say } from "../core/say.js";
import { shown } from "../core/text.js";
import { View } from "../core/view.js";
import { changes } from "./diff.js";
import { time } from "./head.js";
import { tag } from "./state.js";

/** @typedef {import("../../api.ts").Version} Version */

class History extends View {
  path = "";
  writable = false;
  #stamp = "";
  #most = 20;
  #busy = false;
  /** @type {Error | null} */
  #wrong = null;
  /** What each version changed, once it was opened. @type {Map<number, Resource<import("../../api.ts").Difference>>} */
  #opened = new Map();

  /** @type {Resource<import("../../api.ts").VersionPage>} */
  #page = new Resource(this, (signal) => api.get(`${this.path}/versions`, { limit: this.#most }, signal));

  /** @param {string} stamp */
  set stamp(stamp) {
    if (stamp === this.#stamp) return;
    this.#stamp = stamp;
    this.#opened.clear();
    if (this.isConnected) this.#page.reload();
  }

  start() {
    this.#page.reload();
  }

  /** @param {number} n */
  #open(n) {
    if (this.#opened.has(n)) return;
    const difference = new Resource(this, (signal) => api.get(`${this.path}/versions/${n}/diff`, {}, signal));
    this.#opened.set(n, difference);
    difference.reload();
  }

  /** @param {number} n */
  async #rollBack(n) {
    this.#busy = true;
    this.#wrong = null;
    this.update();
    try {
      const made = await api.post(`${this.path}/rollback`, { version: n });
      say(`v${made.number} has the content of v${n}`);
      this.dispatchEvent(new CustomEvent("rolledback", { detail: made, bubbles: true }));
    } catch (error) {
      this.#wrong = /** @type {Error} */ (error);
    }
    this.#busy = false;
    await this.#page.reload();
  }

  draw() {
    return this.#page.shown(
      (page) =>
        html`${this.#wrong ? failed(this.#wrong, null, () => this.#page.reload()) : ""}
          <ul class="history">
            ${repeat(
              page.data,
              (one) => one.number,
              (one, n) => this.#version(one, n === 0),
            )}
          </ul>
          ${
            page.next
              ? html`<button class="btn" type="button" @click=${() => ((this.#most = 200), this.#page.reload())}>
                  Older versions
                </button>`
              : ""
          }`,
    );
  }

  /** @param {Version} version @param {boolean} newest */
  #version(version, newest) {
    const { number, moment, actor, action, restores, changed } = version;
    const words = { create: "made", rollback: `back to v${restores}`, delete: "deleted", rename: "renamed" }[
      /** @type {string} */ (action)
    ];
    return html`<li>
      <details @toggle=${(/** @type {ToggleEvent} */ event) => event.newState === "open" && this.#open(number)}>
        <summary>
          <b>v${number}</b> ${newest ? tag("live") : ""} <span>${words ?? changed.join(", ")}</span>
          <span class="meta">${time(moment, ago, whole)} · ${shown(actor)}</span>
        </summary>
        ${this.#opened
          .get(number)
          ?.shown(({ before, changes: fields }) =>
            fields.length
              ? changes(fields, { before: before ? `v${before}` : "Before", after: `v${number}` })
              : html`<p class="meta">It changed nothing that is shown, such as a credential.</p>`,
          )}
        ${
          newest || !this.writable || action === "delete"
            ? ""
            : html`<button class="btn" type="button" ?disabled=${this.#busy} @click=${() => this.#rollBack(number)}>
                Roll back to v${number}
              </button>`
        }
      </details>
    </li>`;
  }
}
customElements.define("bb-history", History);
