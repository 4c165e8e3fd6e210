// Structured output: tables, notes, and forms whose answers go back as the next message.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { marked, talk } from "../../core/text.js";
import { View } from "../../core/view.js";
import { state } from "../../parts/state.js";

/** @typedef {import("../../../api.ts").StructuredOutput} Output */
/** @typedef {import("../../../api.ts").Question} Question */
/** @typedef {(message: string | { form: Record<string, any> }, content: string) => Promise<unknown>} Reply */

/** Values up to this length stand at the end edge, as numbers do. */
const SHORT = 24;
let count = 0;

/**
 * A block to look at or to answer.
 * @param {Output} data
 * @param {{ answered: boolean, reply: Reply | null }} how `reply` sends the next message, null while that cannot be
 */
export function output(data, { answered, reply }) {
  if (data.output_type === "form") return html`<bb-form .data=${data} .answered=${answered} .reply=${reply}></bb-form>`;
  return html`<div class="out">
    ${data.title ? html`<h2 dir="auto">${talk(data.title)}</h2>` : nothing}
    ${data.description ? html`<p class="in pre" dir="auto">${talk(data.description)}</p>` : nothing}
    ${data.rows?.length ? rows(data) : nothing}
    ${data.actions?.length ? html`<div class="in row wrap">${actions(data, answered ? null : reply)}</div>` : nothing}
  </div>`;
}

/** @param {Output} data */
const rows = (data) => html`
  <div class="scroll">
    <table>
      <caption class="sr">
        ${talk(data.title || "Table")}
      </caption>
      <tbody>
        ${data.rows?.map(
          ({ label, value }) =>
            html`<tr>
              <th scope="row" dir="auto">${talk(label)}</th>
              <td class=${String(value).length > SHORT ? "" : "num"} dir="auto">${talk(value)}</td>
            </tr>`,
        )}
      </tbody>
    </table>
  </div>
`;

/** @param {Output} data @param {Reply | null} reply */
const actions = (data, reply) =>
  data.actions?.map(
    ({ label, type, value }) =>
      html`<button
        class="btn ${type === "primary" ? "first" : ""}"
        type="button"
        ?disabled=${!reply}
        title=${value && value !== label ? marked(value) : nothing}
        @click=${() => reply?.(value || label, value || label)}
      >
        ${talk(label)}
      </button>`,
  );

class Form extends View {
  /** @type {Output | null} */
  #data = null;
  #answered = false;
  /** @type {Reply | null} */
  #reply = null;
  #sending = false;
  #wrong = "";
  /** @type {Record<string, string>} */
  #faults = {};
  #id = `form${++count}`;

  /** @param {Output} data */
  set data(data) {
    if (data !== this.#data) this.update();
    this.#data = data;
  }

  /** @param {boolean} answered */
  set answered(answered) {
    if (answered !== this.#answered) this.update();
    this.#answered = answered;
  }

  /** @param {Reply | null} reply */
  set reply(reply) {
    if (Boolean(reply) !== Boolean(this.#reply)) this.update();
    this.#reply = reply;
  }

  /** @param {SubmitEvent} event */
  async #send(event) {
    event.preventDefault();
    const found = new FormData(/** @type {HTMLFormElement} */ (event.target));
    /** @type {Record<string, string | string[]>} */
    const form = {};
    const lines = [];
    for (const question of this.#data?.questions ?? []) {
      const values = found.getAll(question.id).map(String);
      form[question.id] = question.type === "multiselect" ? values : (values[0] ?? "");
      lines.push(`${question.label}: ${values.join(", ")}`);
    }
    this.#sending = true;
    this.#wrong = "";
    this.#faults = {};
    this.update();
    try {
      await this.#reply?.({ form }, lines.join("\n"));
      this.#answered = true;
    } catch (error) {
      this.#refused(/** @type {import("../../core/api.js").ApiError} */ (error));
    }
    this.#sending = false;
    this.update();
  }

  /** @param {import("../../core/api.js").ApiError} error */
  #refused({ message, details }) {
    this.#wrong = message;
    for (const one of details) this.#faults[one.path.replace("$.message.form.", "")] = one.message;
  }

  draw() {
    const data = this.#data;
    if (!data) return nothing;
    const title = data.title || "A form";
    if (this.#answered) {
      return html`<details class="call">
        <summary>
          ${state("ok", html`<span class="sr">answered</span>`)}<b dir="auto">${talk(title)}</b
          ><span class="t">form, answered</span>
        </summary>
        <ul class="in">
          ${data.questions?.map(({ label }) => html`<li dir="auto">${talk(label)}</li>`)}
        </ul>
      </details>`;
    }
    return html`<form class="out" aria-labelledby=${this.#id} @submit=${this.#send}>
      <h2 id=${this.#id} dir="auto">${talk(title)}</h2>
      <div class="in">
        ${data.description ? html`<p class="pre" dir="auto">${talk(data.description)}</p>` : nothing}
        ${data.questions?.map((question, n) => this.#question(question, `${this.#id}q${n}`))}
        ${this.#wrong ? html`<p class="note fail" role="alert">${talk(this.#wrong)}</p>` : nothing}
        <div class="row wrap">
          <button class="btn first" type="submit" ?disabled=${!this.#reply || this.#sending}>Send</button>
          <span class="meta">Goes back as your next message</span>
        </div>
      </div>
    </form>`;
  }

  /** @param {Question} question @param {string} id */
  #question(question, id) {
    const wrong = this.#faults[question.id];
    const err = wrong ? html`<div class="err" id="${id}e">${talk(wrong)}</div>` : nothing;
    const given = question.default;
    if (question.type === "text") {
      return html`<div class="field">
        <label for=${id} dir="auto">${talk(question.label)}</label>
        <input
          type="text"
          id=${id}
          name=${question.id}
          value=${typeof given === "string" ? given : ""}
          aria-invalid=${wrong ? "true" : nothing}
          aria-describedby=${wrong ? `${id}e` : nothing}
        />
        ${err}
      </div>`;
    }
    const kind = question.type === "select" ? "radio" : "checkbox";
    return html`<fieldset aria-describedby=${wrong ? `${id}e` : nothing}>
      <legend dir="auto">${talk(question.label)}</legend>
      ${question.options.map(
        ({ label, value }) =>
          html`<label dir="auto">
            <input
              type=${kind}
              name=${question.id}
              value=${value || label}
              ?checked=${[given].flat().includes(value || label)}
            />${talk(label)}
          </label>`,
      )}
      ${err}
    </fieldset>`;
  }
}
customElements.define("bb-form", Form);
