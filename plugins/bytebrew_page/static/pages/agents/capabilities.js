// What an agent remembers and knows: capabilities, which are switched at once, each as a version of its own.
import { html } from "../../vendor/lit-html/lit-html.js";
import { View } from "../../core/view.js";
import { ApiError, api } from "../../core/api.js";
import { to } from "../../core/router.js";
import { faults, field } from "../../parts/field.js";
import { isOn, valueOf } from "./form.js";

/** @typedef {import("../../../api.ts").Capability} Capability */
/** @typedef {{ name: string, label: string, hint: string, text?: boolean }} Setting */
/** @typedef {{ type: Capability["type"], title: string, words: string, settings: Setting[] }} Kind */

/** @type {Kind[]} */
const KINDS = [
  {
    type: "memory",
    title: "Remembers people over sessions",
    words: "It stores what it learns of a person, and finds it in later conversations.",
    settings: [
      { name: "max_entries", label: "Memories of a person", hint: "max_entries, 1 to 10,000" },
      { name: "retention_days", label: "Days that it keeps them", hint: "retention_days, 1 to 3,650; empty for ever" },
      { name: "embedding_model", label: "Embedding model", hint: "embedding_model: finds meanings too", text: true },
    ],
  },
  {
    type: "knowledge",
    title: "Searches its knowledge bases",
    words: "It has the tool knowledge_search over the bases that name it, see Knowledge.",
    settings: [
      { name: "top_k", label: "Results of a search", hint: "top_k, 1 to 20" },
      { name: "similarity_threshold", label: "Alike at least", hint: "similarity_threshold, 0 to 1; empty for any" },
    ],
  },
];

class Capabilities extends View {
  agent = "";
  writable = false;
  /** Is called after a change, with what it was. @type {(words: string) => void} */
  changed = () => {};
  /** @type {Capability[]} */
  #all = [];
  #busy = false;
  /** @type {{ type: string, error: Error } | null} */
  #wrong = null;
  /** What is written and not saved, by type. @type {Record<string, Record<string, any>>} */
  #written = {};

  /** @param {Capability[]} all */
  set all(all) {
    this.#all = all;
    this.update();
  }

  /** @param {Kind} kind @param {string} words @param {() => Promise<unknown>} act */
  async #change(kind, words, act) {
    this.#busy = true;
    this.#wrong = null;
    this.update();
    try {
      await act();
      delete this.#written[kind.type];
      this.changed(words);
    } catch (error) {
      this.#wrong = { type: kind.type, error: /** @type {Error} */ (error) };
    }
    this.#busy = false;
    this.update();
  }

  /** @param {Kind} kind @param {boolean} on */
  #switch(kind, on) {
    const found = this.#all.find((one) => one.type === kind.type);
    const all = to`/agents/${this.agent}/capabilities`;
    this.#change(kind, on ? `${kind.title}: on` : `${kind.title}: off`, () =>
      found ? api.put(`${all}/${found.id}`, { enabled: on }) : api.post(all, { type: kind.type }),
    );
  }

  /** @param {Kind} kind @param {Capability} found */
  #save(kind, found) {
    const config = this.#written[kind.type] ?? {};
    this.#change(kind, "Saved", () => api.put(to`/agents/${this.agent}/capabilities/${found.id}`, { config }));
  }

  draw() {
    return html`${KINDS.map((kind) => this.#kind(kind))}`;
  }

  /** @param {Kind} kind */
  #kind(kind) {
    const found = this.#all.find((one) => one.type === kind.type);
    const error = this.#wrong?.type === kind.type ? this.#wrong.error : null;
    const wrong = faults(
      error instanceof ApiError ? error : null,
      kind.settings.map((one) => `$.config.${one.name}`),
    );
    return html`<div class="capability">
      <label class="row">
        <input
          type="checkbox"
          .checked=${found?.enabled ?? false}
          ?disabled=${this.#busy}
          @change=${(/** @type {Event} */ event) => this.#switch(kind, isOn(event))}
        />
        <b>${kind.title}</b>
      </label>
      <p class="meta">${kind.words}</p>
      ${
        wrong[""] || (error && !(error instanceof ApiError))
          ? html`<div class="note fail" role="alert">${wrong[""] ?? error?.message}</div>`
          : ""
      }
      ${found?.enabled ? this.#settings(kind, found, wrong) : ""}
    </div>`;
  }

  /** @param {Kind} kind @param {Capability} found @param {Record<string, string>} wrong */
  #settings(kind, found, wrong) {
    const written = this.#written[kind.type] ?? {};
    const config = /** @type {Record<string, any>} */ (found.config);
    return html`<div class="grid2">
        ${kind.settings.map(({ name, label, hint, text }) =>
          field(
            label,
            `$.config.${name}`,
            { hint, error: wrong[`$.config.${name}`] },
            (id, described, invalid) =>
              html`<input
                id=${id}
                aria-describedby=${described}
                aria-invalid=${invalid}
                .value=${String((name in written ? written[name] : config[name]) ?? "")}
                @change=${(/** @type {Event} */ event) => {
                  const value = valueOf(event).trim();
                  const sent = value === "" ? null : text || !Number.isFinite(Number(value)) ? value : Number(value);
                  this.#written[kind.type] = { ...written, [name]: sent };
                  this.update();
                }}
              />`,
          ),
        )}
      </div>
      ${
        Object.keys(written).length
          ? html`<div class="row">
              <button class="btn" type="button" ?disabled=${this.#busy} @click=${() => this.#save(kind, found)}>
                Save ${kind.type}
              </button>
            </div>`
          : ""
      }`;
  }
}
customElements.define("bb-capabilities", Capabilities);
