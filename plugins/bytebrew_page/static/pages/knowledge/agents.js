// The agents that may search a base.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { api, part } from "../../core/api.js";
import { may } from "../../core/caller.js";
import { to } from "../../core/router.js";
import { shown } from "../../core/text.js";
import { View } from "../../core/view.js";

/** @typedef {import("../../../api.ts").Base} Base */

class BaseAgents extends View {
  /** @type {Base | null} */
  #base = null;
  /** @type {string[]} */
  #names = [];
  #busy = false;
  #error = "";

  /** @param {Base} base */
  set base(base) {
    this.#base = base;
    this.update();
  }

  async start() {
    const rows = await api.get("/agents", {}, this.left).catch(() => []);
    this.#names = rows.map((/** @type {{ name: string }} */ row) => row.name);
    this.update();
  }

  /** @param {"post" | "delete"} method @param {string} name */
  async #change(method, name) {
    if (!name) return;
    this.#busy = true;
    this.#error = "";
    this.update();
    try {
      await api[method](`/knowledge-bases/${part(this.#base?.id ?? "")}/agents/${part(name)}`);
      this.dispatchEvent(new Event("changed", { bubbles: true }));
    } catch (error) {
      this.#error = /** @type {Error} */ (error).message;
    }
    this.#busy = false;
    this.update();
  }

  draw() {
    const linked = this.#base?.linked_agents ?? [];
    const others = this.#names.filter((name) => !linked.includes(name));
    /** @param {Event} event */
    const link = (event) => {
      const choice = /** @type {HTMLSelectElement} */ (event.target);
      this.#change("post", choice.value);
      choice.value = "";
    };
    return html`<h2>Agents that search it</h2>
      ${this.#error ? html`<div class="note fail" role="alert">${this.#error}</div>` : nothing}
      ${
        linked.length
          ? html`<ul class="list">
              ${linked.map(
                (name) =>
                  html`<li>
                    <a class="grow clip" href=${to`/agents/${name}`}>${shown(name)}</a>
                    ${
                      may("agents:write")
                        ? html`<button
                            class="btn plain"
                            type="button"
                            aria-label="Unlink ${name}"
                            ?disabled=${this.#busy}
                            @click=${() => this.#change("delete", name)}
                          >
                            Unlink
                          </button>`
                        : nothing
                    }
                  </li>`,
              )}
            </ul>`
          : html`<p class="dim">No agent searches this base yet.</p>`
      }
      ${
        may("agents:write") && others.length
          ? html`<select aria-label="Link an agent" ?disabled=${this.#busy} @change=${link}>
              <option value="">Link an agent</option>
              ${others.map((name) => html`<option>${name}</option>`)}
            </select>`
          : nothing
      }`;
  }
}
customElements.define("bb-base-agents", BaseAgents);
