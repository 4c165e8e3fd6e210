// What both lists of the audit are: pages of entries behind filters, one of which may be open.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { api } from "../../core/api.js";
import { ZONE, int } from "../../core/format.js";
import { Resource } from "../../core/resource.js";
import { setQuery } from "../../core/router.js";
import { View } from "../../core/view.js";
import { bones } from "../../parts/bones.js";
import { dialog } from "../../parts/dialog.js";
import { empty } from "../../parts/head.js";
import { table } from "../../parts/table.js";

const PAGE = 50;

/**
 * @template {{ id: string }} T
 * @typedef {{ data: T[], total: number, next: string | null }} Entries
 */

/** @template {{ id: string }} T */
export class Ledger extends View {
  path = "";
  caption = "";
  /** @type {import("../../parts/table.js").Column<T>[]} */
  columns = [];
  entry = "";
  /** @type {Record<string, string>} */
  #wanted = {};
  /** @type {T[]} */
  #more = [];
  /** @type {string | null} */
  #next = null;
  #busy = false;
  #opened = "";
  /** @type {Resource<Entries<T>>} */
  #entries = new Resource(this, (signal) => api.get(this.path, { ...this.#wanted, limit: PAGE }, signal));

  get wanted() {
    return this.#wanted;
  }

  /** @param {Record<string, string>} wanted */
  set wanted(wanted) {
    const before = JSON.stringify(this.#wanted);
    this.#wanted = wanted;
    if (this.isConnected && before !== JSON.stringify(wanted)) this.reload();
    this.update();
  }

  start() {
    this.reload();
  }

  async reload() {
    await this.#entries.reload();
    this.#more = [];
    this.#next = this.#entries.value?.next ?? null;
    this.update();
  }

  async #further() {
    this.#busy = true;
    this.update();
    const query = { ...this.#wanted, limit: PAGE, after: this.#next };
    /** @type {Entries<T> | null} */
    const page = await api.get(this.path, query, this.left).catch((error) => {
      this.#entries.error = error;
      return null;
    });
    this.#busy = false;
    this.#more = [...this.#more, ...(page?.data ?? [])];
    this.#next = page ? page.next : this.#next;
    this.update();
  }

  /** The filters of this list. @returns {unknown} */
  filters() {
    return nothing;
  }

  /** All of an entry. @param {T} entry @returns {unknown} */
  details(entry) {
    return nothing;
  }

  get #rows() {
    return [...(this.#entries.value?.data ?? []), ...this.#more];
  }

  /** Opens the entry that the address names, once it is there. */
  async drawn() {
    const entry = this.entry && this.entry !== this.#opened && this.#rows.find((one) => one.id === this.entry);
    if (!entry) return;
    this.#opened = entry.id;
    await dialog(`Entry ${entry.id}`, (close) => this.#sheet(entry, close), { kind: "box wide" });
    this.#opened = "";
    setQuery({ entry: null });
  }

  /** @param {T} entry @param {() => void} close */
  #sheet(entry, close) {
    return html`<h2 tabindex="-1" autofocus>Entry ${entry.id}</h2>
      ${this.details(entry)}
      <div class="row"><button class="btn" type="button" @click=${() => close()}>Close</button></div>`;
  }

  /** @param {string} name @param {string} none @param {[string, string][]} options */
  choice(name, none, options) {
    const value = this.#wanted[name] ?? "";
    const strange = value && !options.some(([key]) => key === value) ? [[value, `${value} (unknown)`]] : [];
    return html`<select aria-label=${none} @change=${change(name)}>
      <option value="">${none}</option>
      ${[...options, ...strange].map(
        ([key, words]) => html`<option value=${key} ?selected=${key === value}>${words}</option>`,
      )}
    </select>`;
  }

  /** @param {string} name @param {string} label @param {string} [type] */
  line(name, label, type = "search") {
    const value = this.#wanted[name] ?? "";
    return html`<input
      type=${type}
      placeholder=${label}
      aria-label=${label}
      .value=${value}
      @change=${change(name)}
    />`;
  }

  /** From a day to a day. */
  days() {
    const day = (/** @type {string} */ name, /** @type {string} */ label) =>
      html`<label class="row"><span class="meta">${label}</span>${this.line(name, `${label}, a day`, "date")}</label>`;
    return html`${day("from", "From")} ${day("to", "To")}`;
  }

  /** @param {Entries<T>} entries */
  #shown({ total }) {
    const rows = this.#rows;
    const narrowed = Object.values(this.#wanted).some(Boolean);
    const clear = () => setQuery(Object.fromEntries(Object.keys(this.#wanted).map((name) => [name, null])));
    if (!rows.length) {
      return narrowed
        ? empty(
            "No entry is like this",
            "Fewer filters show more.",
            html`<button class="btn" type="button" @click=${clear}>Clear filters</button>`,
          )
        : empty("Nothing is recorded yet", "Every change over the API and every call of a tool leaves an entry here.");
    }
    return html`${table(this.caption, this.columns, rows, (row) => row.id)}
      <p class="row wrap more">
        <span class="meta">${int(rows.length)} of ${int(total)}, newest first; times in ${ZONE}</span>
        ${
          this.#next
            ? html`<button class="btn" type="button" ?disabled=${this.#busy} @click=${() => this.#further()}>
                Show more
              </button>`
            : nothing
        }
      </p>`;
  }

  draw() {
    return html`<div class="filters">${this.filters()}</div>
      ${this.#entries.shown(
        (entries) => this.#shown(entries),
        () => bones(this.columns.map((column) => column.title)),
      )}`;
  }
}

/** @param {string} name */
const change = (name) => (/** @type {Event} */ event) =>
  setQuery({ [name]: /** @type {HTMLInputElement} */ (event.target).value.trim() });
