// The form of an HTTP tool: what a model is told of it, and the request that it makes.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { ApiError, api, part } from "../../core/api.js";
import { go, to } from "../../core/router.js";
import { View } from "../../core/view.js";
import { faults, field } from "../../parts/field.js";
import { secret } from "../../parts/secret.js";

/** @typedef {import("../../../api.ts").HttpTool} HttpTool */
/** @typedef {Record<string, string | boolean>} Draft */

const JSON_FIELDS = ["parameters", "headers", "params", "body"];
const PATHS = [
  ...["name", "description", "method", "url", "auth", "risk", "confirmation_required", "timeout"],
  ...["response_pointer", "allow_private", ...JSON_FIELDS],
].map((name) => `$.${name}`);
const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"];
/** The field of each way to sign in that holds the secret. @type {Record<string, string>} */
const CREDENTIAL = { bearer: "token", basic: "password", header: "value" };

/** @param {HttpTool | null} tool @returns {Draft} */
const draftOf = (tool) => ({
  name: tool?.name ?? "",
  description: tool?.description ?? "",
  method: tool?.method ?? "GET",
  url: tool?.url ?? "",
  parameters: JSON.stringify(tool?.parameters ?? {}, null, 2),
  headers: JSON.stringify(tool?.headers ?? {}, null, 2),
  params: JSON.stringify(tool?.params ?? {}, null, 2),
  body: tool?.body ? JSON.stringify(tool.body, null, 2) : "",
  auth: tool?.auth?.type ?? "none",
  auth_name: tool?.auth?.name ?? "",
  auth_user: tool?.auth?.username ?? "",
  credential: "",
  risk: tool?.risk ?? "",
  confirmation_required: tool?.confirmation_required ?? false,
  timeout: String(tool?.timeout ?? 30),
  response_pointer: tool?.response_pointer ?? "",
  allow_private: tool?.allow_private ?? false,
});

/** @param {Draft} draft */
function authOf(draft) {
  const type = String(draft.auth);
  if (type === "none") return null;
  /** @type {Record<string, string>} */
  const auth = { type };
  if (draft.credential) auth[CREDENTIAL[type]] = String(draft.credential);
  if (draft.auth_user) auth.username = String(draft.auth_user);
  if (draft.auth_name) auth.name = String(draft.auth_name);
  return auth;
}

/** What is sent; of a tool that is there, only what has changed. @param {Draft} draft @param {HttpTool | null} tool */
function bodyOf(draft, tool) {
  const was = draftOf(tool);
  const changed = (/** @type {string} */ name) => !tool || draft[name] !== was[name];
  /** @type {Record<string, any>} */
  const body = {};
  for (const name of [
    "name",
    "description",
    "method",
    "url",
    "confirmation_required",
    "response_pointer",
    "allow_private",
  ])
    if (changed(name)) body[name] = draft[name];
  for (const name of JSON_FIELDS) {
    const text = String(draft[name]).trim();
    if (changed(name) && (text || tool)) body[name] = text ? JSON.parse(text) : null;
  }
  if (changed("risk")) body.risk = draft.risk || null;
  if (changed("timeout")) body.timeout = Number(draft.timeout);
  if (["auth", "auth_name", "auth_user", "credential"].some(changed)) body.auth = authOf(draft);
  return body;
}

/** `<bb-http-form .tool=${tool}>`, null for a new one. */
class HttpForm extends View {
  /** @type {HttpTool | null} */
  #tool = null;
  #draft = draftOf(null);
  #busy = false;
  /** @type {ApiError | null} */
  #error = null;
  /** The fields whose text is no JSON. @type {string[]} */
  #broken = [];

  /** @param {HttpTool | null} tool */
  set tool(tool) {
    if (tool?.updated_at === this.#tool?.updated_at) return;
    this.#tool = tool;
    this.#draft = draftOf(tool);
    this.update();
  }

  /** @param {Draft} change */
  #change(change) {
    this.#draft = { ...this.#draft, ...change };
    this.update();
  }

  async #save() {
    this.#error = null;
    this.#broken = JSON_FIELDS.filter((name) => !parses(String(this.#draft[name])));
    this.update();
    if (this.#broken.length) return this.#focus();
    this.#busy = true;
    try {
      const body = bodyOf(this.#draft, this.#tool);
      const saved = this.#tool
        ? await api.patch(`/tools/${part(this.#tool.name)}`, body)
        : await api.post("/tools", body, { headers: { "idempotency-key": crypto.randomUUID() } });
      this.#draft.credential = "";
      this.dispatchEvent(new CustomEvent("changed"));
      go(to`/tools/http/${saved.name}`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#error = error;
      this.#focus();
    } finally {
      this.#busy = false;
      this.update();
    }
  }

  #focus() {
    setTimeout(() => /** @type {HTMLElement | null} */ (this.querySelector("[aria-invalid=true]"))?.focus());
  }

  draw() {
    const wrong = faults(this.#error, PATHS);
    for (const name of this.#broken) wrong[`$.${name}`] = "is no JSON";
    const fixed = this.#tool !== null;
    return html`<form
      class="stack"
      novalidate
      @submit=${(/** @type {SubmitEvent} */ event) => (event.preventDefault(), this.#save())}
    >
      ${wrong[""] ? html`<div class="note fail" role="alert">${wrong[""]}</div>` : ""}
      ${this.#text("name", "Name", wrong, html`<code>name</code>, what models call it${fixed ? "; is fixed" : ""}`, { fixed })}
      ${this.#lines("description", "What it does", wrong, html`<code>description</code>, for the model that chooses it`)}
      <div class="grid2">
        ${this.#select("method", "Method", wrong, METHODS, html`<code>method</code>`)}
        ${this.#select("risk", "Risk", wrong, ["", "safe", "caution", "dangerous"], html`<code>risk</code>, empty for that of the method`)}
      </div>
      ${this.#text("url", "Address", wrong, html`<code>url</code>, with <code>{{parameter}}</code> where an argument goes`)}
      ${this.#lines("parameters", "Parameters", wrong, html`<code>parameters</code>, JSON: name → <code>{"type", "description"}</code>`, 5)}
      ${this.#auth(wrong)}
      <label class="row"> ${this.#check("confirmation_required")} A person is asked before each call </label>
      <details
        class="more"
        ?open=${["headers", "params", "body", "timeout", "response_pointer"].some((name) => wrong[`$.${name}`])}
      >
        <summary>Headers, query, body and limits</summary>
        <div class="stack">
          ${this.#lines("headers", "Headers", wrong, html`<code>headers</code>, JSON`, 3)}
          ${this.#lines("params", "Query", wrong, html`<code>params</code>, JSON`, 3)}
          ${this.#lines("body", "Body", wrong, html`<code>body</code>, JSON; empty for the parameters that stand nowhere else`, 3)}
          <div class="grid2">
            ${this.#text("timeout", "Time limit", wrong, html`<code>timeout</code>, seconds`)}
            ${this.#text("response_pointer", "Part of the answer", wrong, html`<code>response_pointer</code>, such as <code>/items/0</code>`)}
          </div>
          <label class="row">${this.#check("allow_private")} It may reach private addresses</label>
        </div>
      </details>
      <div class="row wrap">
        <button class="btn first" type="submit" ?disabled=${this.#busy}>${this.#tool ? "Save" : "Add the tool"}</button>
        <a class="btn plain" href=${this.#tool ? to`/tools/http/${this.#tool.name}` : "/tools"}>Cancel</a>
      </div>
    </form>`;
  }

  /** @param {Record<string, string>} wrong */
  #auth(wrong) {
    const type = String(this.#draft.auth);
    return html`
      ${this.#select("auth", "Signs in", wrong, ["none", ...Object.keys(CREDENTIAL)], html`<code>auth.type</code>`)}
      ${type === "basic" ? this.#text("auth_user", "User", wrong, html`<code>auth.username</code>`) : ""}
      ${type === "header" ? this.#text("auth_name", "Header", wrong, html`<code>auth.name</code>`) : ""}
      ${
        type === "none"
          ? ""
          : field(
              "Credential",
              "$.auth.credential",
              { hint: html`<code>auth.${CREDENTIAL[type]}</code>, sealed on disk` },
              (id, described, invalid) =>
                secret(id, described, {
                  value: String(this.#draft.credential),
                  stored: this.#tool?.has_credential,
                  invalid,
                  write: (credential) => this.#change({ credential }),
                }),
            )
      }
    `;
  }

  /** @param {string} name */
  #check(name) {
    return html`<input
      type="checkbox"
      .checked=${live(Boolean(this.#draft[name]))}
      @change=${(/** @type {any} */ event) => this.#change({ [name]: event.target.checked })}
    />`;
  }

  /**
   * @param {string} name @param {string} label @param {Record<string, string>} wrong @param {unknown} hint
   * @param {{ fixed?: boolean }} [how]
   */
  #text(name, label, wrong, hint, { fixed = false } = {}) {
    return field(
      label,
      `$.${name}`,
      { hint, error: wrong[`$.${name}`] },
      (id, described, invalid) =>
        html`<input
          id=${id}
          autocomplete="off"
          spellcheck="false"
          ?readonly=${fixed}
          aria-describedby=${described || nothing}
          aria-invalid=${invalid ? "true" : nothing}
          .value=${live(String(this.#draft[name]))}
          @input=${(/** @type {any} */ event) => this.#change({ [name]: event.target.value })}
        />`,
    );
  }

  /** @param {string} name @param {string} label @param {Record<string, string>} wrong @param {unknown} hint @param {number} [rows] */
  #lines(name, label, wrong, hint, rows = 2) {
    return field(
      label,
      `$.${name}`,
      { hint, error: wrong[`$.${name}`] },
      (id, described, invalid) =>
        html`<textarea
          id=${id}
          rows=${rows}
          spellcheck="false"
          aria-describedby=${described || nothing}
          aria-invalid=${invalid ? "true" : nothing}
          .value=${live(String(this.#draft[name]))}
          @input=${(/** @type {any} */ event) => this.#change({ [name]: event.target.value })}
        ></textarea>`,
    );
  }

  /** @param {string} name @param {string} label @param {Record<string, string>} wrong @param {string[]} choices @param {unknown} hint */
  #select(name, label, wrong, choices, hint) {
    return field(
      label,
      `$.${name}`,
      { hint, error: wrong[`$.${name}`] },
      (id, described, invalid) =>
        html`<select
          id=${id}
          aria-describedby=${described || nothing}
          aria-invalid=${invalid ? "true" : nothing}
          @change=${(/** @type {any} */ event) => this.#change({ [name]: event.target.value })}
        >
          ${choices.map(
            (one) =>
              html`<option value=${one} .selected=${one === this.#draft[name]}>${one || "as the method"}</option>`,
          )}
        </select>`,
    );
  }
}

/** @param {string} text */
function parses(text) {
  if (!text.trim()) return true;
  try {
    return typeof JSON.parse(text) === "object";
  } catch {
    return false;
  }
}
customElements.define("bb-http-form", HttpForm);
