// One knowledge base: its search, its files, and the agents that may search it.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { api, part } from "../../core/api.js";
import { may } from "../../core/caller.js";
import { Resource } from "../../core/resource.js";
import { go, to } from "../../core/router.js";
import { shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { sure } from "../../parts/dialog.js";
import { head } from "../../parts/head.js";
import { tag } from "../../parts/state.js";
import "./agents.js";
import "./files.js";
import { editBase } from "./form.js";
import { stateOf } from "./list.js";
import "./search.js";

/** @typedef {import("../../../api.ts").Base} Base */

class BaseView extends View {
  name = "";
  /** @type {import("./search.js").Wanted} */
  #wanted = { q: "", threshold: "", file: "" };
  /** @type {Error | null} */
  #error = null;
  /** @type {Resource<Base>} */
  #base = new Resource(this, (signal) => api.get(`/knowledge-bases/${part(this.name)}`, {}, signal));

  /** @param {import("./search.js").Wanted} wanted */
  set wanted(wanted) {
    this.#wanted = wanted;
    this.update();
  }

  start() {
    this.#base.reload();
    this.live(["config"], () => this.#base.reload());
    this.addEventListener("changed", () => this.#base.reload(), { signal: this.left });
  }

  /** @param {Base} base */
  async #edit(base) {
    const after = await editBase(base);
    if (after && after.name !== this.name) go(to`/knowledge/${after.name}`, { replace: true });
    else if (after) this.#base.reload();
  }

  /** @param {Base} base */
  async #delete(base) {
    const words = `Its ${base.file_count} files go with it, and what was indexed of them.`;
    if (!(await sure(`Delete base ${base.name}`, words))) return;
    try {
      await api.delete(`/knowledge-bases/${part(base.id)}`);
      go("/knowledge");
    } catch (error) {
      this.#error = /** @type {Error} */ (error);
      this.update();
    }
  }

  /** @param {Base} base */
  #acts(base) {
    if (!may("agents:write")) return "";
    return html`<button class="btn" type="button" @click=${() => this.#edit(base)}>Change</button>
      <button class="btn no" type="button" @click=${() => this.#delete(base)}>Delete</button>`;
  }

  draw() {
    const base = this.#base.value;
    return html`
      ${head(shown(base?.name ?? this.name), {
        crumb: html`<a href="/knowledge">Knowledge</a> /`,
        words: base?.description ? shown(base.description) : nothing,
        acts: base ? this.#acts(base) : nothing,
      })}
      ${this.#error ? html`<div class="note fail" role="alert">${this.#error.message}</div>` : nothing}
      ${this.#base.shown(
        (one) =>
          html`<p class="row wrap factline">
              ${stateOf(one)} ${one.embedding_model ? tag(`meanings by ${one.embedding_model}`) : tag("finds words")}
              ${one.folder ? tag(`follows ${one.folder}`) : nothing}
            </p>
            <div class="cols base">
              <div class="stack">
                <bb-base-search .base=${one} .wanted=${this.#wanted}></bb-base-search>
                <bb-base-files .base=${one}></bb-base-files>
              </div>
              <aside><bb-base-agents .base=${one}></bb-base-agents></aside>
            </div>`,
      )}
    `;
  }
}
customElements.define("bb-base", BaseView);
