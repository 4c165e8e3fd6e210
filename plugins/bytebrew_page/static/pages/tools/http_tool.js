// One HTTP tool: what it asks for and sends, a trial of it, and its form.
import { html } from "../../vendor/lit-html/lit-html.js";
import { ApiError, api, part } from "../../core/api.js";
import { may } from "../../core/caller.js";
import { ms } from "../../core/format.js";
import { Resource } from "../../core/resource.js";
import { go, to } from "../../core/router.js";
import { say } from "../../core/say.js";
import { json, shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { code } from "../../parts/code.js";
import { sure } from "../../parts/dialog.js";
import { head } from "../../parts/head.js";
import { risk, state, tag } from "../../parts/state.js";
import { toast } from "../../parts/toast.js";
import "./http_form.js";

/** @typedef {import("../../../api.ts").HttpTool} HttpTool */
/** @typedef {import("../../../api.ts").TrialResult} TrialResult */

const LONG = 4096;

/** Arguments to begin a trial with: an example of each parameter. @param {HttpTool} tool */
function example(tool) {
  const values = Object.entries(tool.parameters).map(([name, about]) => [name, about.default ?? exampleOf(about)]);
  return JSON.stringify(Object.fromEntries(values), null, 2);
}

/** @param {{ type?: string, enum?: unknown[] | null }} about */
const exampleOf = ({ type, enum: choices }) =>
  choices?.[0] ?? { integer: 1, number: 1, boolean: true, array: [], object: {} }[type ?? "string"] ?? "";

/** `<bb-http-tool .where=${{ name, edit }}>` */
class HttpToolPage extends View {
  #name = "";
  #edit = false;
  #input = "";
  #busy = false;
  /** @type {TrialResult | null} */
  #result = null;
  #whole = false;
  /** @type {Error | null} */
  #error = null;
  /** @type {Resource<HttpTool>} */
  #tool = new Resource(this, (signal) => api.get(`/tools/${part(this.#name)}`, {}, signal));

  /** @param {{ name: string, edit: boolean }} where */
  set where({ name, edit }) {
    const other = name !== this.#name;
    [this.#name, this.#edit] = [name, edit];
    if (other && this.isConnected) this.#load();
    this.update();
  }

  start() {
    this.#load();
  }

  async #load() {
    await this.#tool.reload();
    this.#input = this.#tool.value ? example(this.#tool.value) : "";
    this.#result = this.#error = null;
    this.update();
  }

  async #try() {
    this.#busy = true;
    this.#result = this.#error = null;
    this.update();
    try {
      const body = { arguments: JSON.parse(this.#input || "{}") };
      this.#result = await api.post(`/tools/${part(this.#name)}/test`, body);
      this.#whole = false;
      say(this.#result?.has_error ? "The tool failed" : "The tool has answered");
    } catch (error) {
      this.#error = /** @type {Error} */ (error);
    } finally {
      this.#busy = false;
      this.update();
    }
  }

  async #delete() {
    const name = this.#name;
    if (!(await sure(`Delete tool ${name}`, "Its credential is deleted with it."))) return;
    try {
      await api.delete(`/tools/${part(name)}`);
      toast(`Tool ${name} is deleted`);
      go("/tools");
    } catch (error) {
      this.#error = /** @type {Error} */ (error);
      this.update();
    }
  }

  draw() {
    return html`
      ${head(shown(this.#name), {
        crumb: html`<a href="/tools">Tools</a> / HTTP tools /`,
        acts: html`<a class="btn" href=${to`/tools/http/${this.#name}?edit=1`}>Edit</a>
          <button class="btn no" type="button" @click=${() => this.#delete()}>Delete</button>`,
      })}
      ${this.#tool.shown((tool) =>
        this.#edit
          ? html`<bb-http-form class="narrow" .tool=${tool} @changed=${() => this.#load()}></bb-http-form>`
          : this.#body(tool),
      )}
    `;
  }

  /** @param {HttpTool} tool */
  #body(tool) {
    const parameters = Object.fromEntries(Object.entries(tool.parameters));
    const agents = tool.agents.map((name, n) => html`${n ? ", " : ""}<a href=${to`/agents/${name}`}>${name}</a>`);
    return html`
      <p class="factline dim">
        ${risk(tool.security_zone)} ${tool.confirmation_required ? tag("asks first") : ""}
        <span class="mono">${tool.method} ${shown(tool.url)}</span>
        <span>${tool.auth ? `signs in by ${tool.auth.type}` : "sends no credential"}</span>
        <span>at most ${tool.timeout} s</span>
        <span>${agents.length ? html`used by ${agents}` : "used by no agent"}</span>
      </p>
      <div class="cols">
        <div class="stack">
          <p class="any">
            <span class="pre"
              >${tool.description ? shown(tool.description) : "It has no description: a model sees its name alone."}</span
            >
          </p>
          ${code("Parameters", json(parameters), JSON.stringify(parameters, null, 2))}
          ${tool.body ? code("Body", json(tool.body), JSON.stringify(tool.body, null, 2)) : ""}
        </div>
        <aside class="card inspect" aria-label="Try it">${this.#trial()}</aside>
      </div>
    `;
  }

  #trial() {
    const error = this.#error;
    const wrong = error instanceof SyntaxError ? "These arguments are no JSON" : error?.message;
    return html`<form
      class="stack"
      @submit=${(/** @type {SubmitEvent} */ event) => (event.preventDefault(), this.#try())}
    >
      <h2>Try it</h2>
      <div class="field">
        <label for="trial">Arguments</label>
        <textarea
          id="trial"
          rows="6"
          spellcheck="false"
          aria-invalid=${error instanceof SyntaxError ? "true" : "false"}
          .value=${this.#input}
          @input=${(/** @type {any} */ event) => (this.#input = event.target.value)}
        ></textarea>
        <div class="hint">It runs for real, once, and asks nobody.</div>
      </div>
      ${wrong ? html`<div class="note fail" role="alert">${wrong}${this.#users(error)}</div>` : ""}
      <div class="row"><button class="btn" type="submit" ?disabled=${this.#busy}>Run it once</button></div>
      ${this.#busy ? state("running") : ""} ${this.#result ? this.#outcome(this.#result) : ""}
    </form>`;
  }

  /** @param {Error | null} error */
  #users(error) {
    if (!(error instanceof ApiError) || error.status !== 409) return "";
    return html`<ul>
      ${error.details.map(({ message }) => html`<li><a href=${to`/agents/${message}`}>${message}</a></li>`)}
    </ul>`;
  }

  /** @param {TrialResult} result */
  #outcome({ status, output, has_error, duration_ms }) {
    const cut = output.length > LONG && !this.#whole;
    return html`
      <p class="row">
        ${state(has_error ? "failed" : "ok", status ? `HTTP ${status}` : "no answer")}<span class="meta"
          >${ms(duration_ms)}</span
        >
      </p>
      ${code("What the model is told", shown(cut ? output.slice(0, LONG) : output), output)}
      ${
        cut
          ? html`<button class="btn" type="button" @click=${() => ((this.#whole = true), this.update())}>
              Show all ${output.length} characters
            </button>`
          : ""
      }
    `;
  }
}
customElements.define("bb-http-tool", HttpToolPage);
