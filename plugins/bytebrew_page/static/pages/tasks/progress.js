// What an agent does for a task, as it does it: its calls and its words.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { repeat } from "../../vendor/lit-html/directives/repeat.js";
import { follow } from "../../core/stream.js";
import { shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { state } from "../../parts/state.js";

/** @typedef {{ key: string, state: string, words: string, more: string }} Step */

const MOST = 200;
const EXCERPT = 200;

class Progress extends View {
  session = "";
  /** @type {Step[]} */
  #steps = [];
  #text = "";
  #error = "";

  start() {
    this.#steps = [];
    this.#text = this.#error = "";
    this.#follow();
  }

  async #follow() {
    try {
      for await (const event of follow(this.session, { signal: this.left })) {
        this.#take(event);
        this.update();
      }
    } catch (error) {
      this.#error = /** @type {Error} */ (error).message;
      this.update();
    }
  }

  /** @param {import("../../core/stream.js").JournalEvent} event */
  #take({ id, event, data }) {
    if (event === "message_delta") this.#text = (this.#text + data.content).slice(-EXCERPT);
    if (event === "tool_call")
      this.#add({ key: data.call_id, state: "running", words: data.tool, more: brief(data.input) });
    if (event === "tool_result") this.#end(data.call_id, data.has_error ? "failed" : "completed");
    if (event === "confirmation") this.#end(data.call_id, "waiting");
    if (event === "message") {
      this.#text = "";
      if (data.content) this.#add({ key: String(id), state: "ok", words: "said", more: brief(data.content) });
    }
    if (event === "error") this.#add({ key: String(id), state: "failed", words: data.code, more: brief(data.message) });
  }

  /** @param {Step} step */
  #add(step) {
    this.#steps = [...this.#steps.filter((one) => one.key !== step.key), step].slice(-MOST);
  }

  /** @param {string} key @param {string} to */
  #end(key, to) {
    const step = this.#steps.find((one) => one.key === key);
    if (step) step.state = to;
  }

  draw() {
    if (this.#error) return html`<p class="meta">${this.#error}</p>`;
    return html`<ol class="list steps" aria-label="Steps">
        ${repeat(
          this.#steps,
          (step) => step.key,
          (step) =>
            html`<li>${state(step.state, step.words)} <span class="clip mono grow">${shown(step.more)}</span></li>`,
        )}
      </ol>
      ${this.#text ? html`<p class="dim clip">${shown(this.#text)}</p>` : nothing}`;
  }
}
customElements.define("bb-progress", Progress);

/** @param {any} value */
const brief = (value) => (typeof value === "string" ? value : JSON.stringify(value ?? "")).slice(0, EXCERPT);
