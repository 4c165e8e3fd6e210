// The dialog that makes a key: what it is for, for how long, and then its token, this once.
import { html } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { api } from "../../core/api.js";
import { Resource } from "../../core/resource.js";
import { say } from "../../core/say.js";
import { shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { code } from "../../parts/code.js";
import { faults, field } from "../../parts/field.js";
import { PURPOSES, purposeOf } from "./purposes.js";

/** @typedef {import("../../../api.ts").Scope} Scope */
/** @typedef {import("../../../api.ts").Schema} Schema */
/** @typedef {import("../../../api.ts").CreatedToken} CreatedToken */
/** @typedef {import("../../core/api.js").ApiError} ApiError */

const FIELDS = ["$.name", "$.scopes", "$.schemas", "$.view", "$.expires_at"];
const DAY = 86_400_000;
const ENDS = [
  ["30", "in 30 days"],
  ["90", "in 90 days"],
  ["365", "in a year"],
  ["", "never"],
];
/** What a token with the view public may have. */
const ANSWERS = ["chat", "tasks", "public"];

export class NewKey extends View {
  /** Closes the dialog. @type {(result?: string) => void} */
  done = () => {};
  /** What a link has chosen. @type {{ purpose?: string, schema?: string }} */
  chosen = {};
  #name = "";
  #scopes = new Set(["chat", "tasks"]);
  #days = "365";
  #bound = false;
  /** @type {Set<string>} */
  #schemas = new Set();
  #answers = false;
  #custom = false;
  #busy = false;
  /** @type {ApiError | null} */
  #error = null;
  /** @type {CreatedToken | null} */
  #made = null;
  #stored = false;
  #key = crypto.randomUUID();
  #begun = false;

  start() {
    const { purpose = "server", schema } = this.chosen;
    this.#purpose(PURPOSES.find((one) => one.id === purpose) ?? PURPOSES[1]);
    if (schema) {
      this.#bound = true;
      this.#schemas = new Set([schema]);
    }
    this.known = new Resource(this, async (signal) => {
      const [scopes, schemas] = await Promise.all([
        api.get("/auth/scopes", {}, signal),
        api.get("/schemas", {}, signal),
      ]);
      return { scopes: /** @type {Scope[]} */ (scopes), schemas: /** @type {Schema[]} */ (schemas) };
    });
    this.known.reload();
    this.closest("dialog")?.addEventListener("cancel", (event) => this.#keepOpen(event), { signal: this.left });
    this.addEventListener("keydown", (event) => event.key === "Escape" && this.#keepOpen(event), { signal: this.left });
  }

  /** A token that is not stored yet would be lost for good. @param {Event} event */
  #keepOpen(event) {
    if (!this.#made || this.#stored) return;
    event.preventDefault();
    say("Store the token first. It is shown this once.");
  }

  /** @param {import("./purposes.js").Purpose} purpose */
  #purpose(purpose) {
    this.#custom = purpose.id === "custom";
    if (!this.#custom) this.#scopes = new Set(purpose.scopes);
    this.#days = purpose.days;
    this.#answers = false;
    this.update();
  }

  /** @param {string} name @param {boolean} on */
  #scope(name, on) {
    if (on) this.#scopes.add(name);
    else this.#scopes.delete(name);
    this.#custom = true;
    this.update();
  }

  /** @param {Event} event */
  async #create(event) {
    event.preventDefault();
    if (this.#busy) return;
    this.#busy = true;
    this.update();
    const body = {
      name: this.#name,
      scopes: [...this.#scopes],
      schemas: this.#bound && this.#bindable() ? [...this.#schemas] : null,
      view: this.#answers && this.#mayHide() ? "public" : null,
      expires_at: this.#days ? new Date(Date.now() + Number(this.#days) * DAY).toISOString() : null,
    };
    try {
      this.#made = await api.post("/auth/tokens", body, { headers: { "idempotency-key": this.#key } });
      this.#error = null;
      say(`The key ${this.#name} is made. Copy its token now.`);
    } catch (error) {
      this.#error = /** @type {ApiError} */ (error);
      if (this.#error.status) this.#key = crypto.randomUUID(); // refused: another attempt is another request
    }
    this.#busy = false;
    this.update();
    queueMicrotask(() => this.#focus());
  }

  #focus() {
    const target = this.#made ? "h2" : "[aria-invalid=true], [role=alert]";
    /** @type {HTMLElement | null} */ (this.querySelector(target))?.focus();
  }

  /** The chosen scopes that are about every schema. */
  #wide() {
    const scopes = this.known?.value?.scopes ?? [];
    return scopes.filter((one) => this.#scopes.has(one.name) && !one.bindable).map((one) => one.name);
  }

  #bindable() {
    return this.#scopes.size > 0 && this.#wide().length === 0;
  }

  #mayHide() {
    return this.#scopes.size > 0 && [...this.#scopes].every((name) => ANSWERS.includes(name));
  }

  drawn() {
    const name = /** @type {HTMLElement | null} */ (this.querySelector("input"));
    if (this.#begun || !name) return;
    this.#begun = true;
    name.focus();
  }

  draw() {
    if (this.#made) return this.#token(this.#made);
    return html`
      <h2 tabindex="-1" autofocus>New API key</h2>
      ${this.known?.shown(({ scopes, schemas }) => this.#form(scopes, schemas))}
      ${this.known?.value ? "" : html`<button class="btn plain" type="button" @click=${() => this.done()}>Cancel</button>`}
    `;
  }

  /** @param {Scope[]} scopes @param {Schema[]} schemas */
  #form(scopes, schemas) {
    const wrong = faults(this.#error, FIELDS);
    const purpose = this.#custom ? PURPOSES[PURPOSES.length - 1] : purposeOf(this.#scopes);
    return html`
      <form class="stack" novalidate @submit=${this.#create}>
        ${wrong[""] ? html`<div class="note fail" role="alert" tabindex="-1">${wrong[""]}</div>` : ""}
        ${field(
          "Name",
          "$.name",
          { hint: html`<code>name</code>, such as the program that holds it`, error: wrong["$.name"] },
          (id, described, invalid) =>
            html`<input
              id=${id}
              autocomplete="off"
              maxlength="255"
              aria-describedby=${described}
              aria-invalid=${invalid}
              .value=${live(this.#name)}
              @input=${(/** @type {any} */ event) => (this.#name = event.target.value)}
            />`,
        )}
        <fieldset class="bare">
          <legend>What is it for?</legend>
          <div class="vendors">
            ${PURPOSES.map(
              (one) =>
                html`<label
                  ><input
                    type="radio"
                    name="purpose"
                    .checked=${live(one.id === purpose.id)}
                    @change=${() => this.#purpose(one)}
                  />${one.words}</label
                >`,
            )}
          </div>
          <p class="hint">${purpose.why}</p>
        </fieldset>
        ${this.#scopesField(scopes, wrong["$.scopes"])} ${this.#schemasField(schemas, wrong["$.schemas"])}
        ${this.#viewField(wrong["$.view"])}
        ${field(
          "Expires",
          "$.expires_at",
          { hint: this.#endHint(), error: wrong["$.expires_at"] },
          (id, described) =>
            html`<select
              id=${id}
              aria-describedby=${described}
              @change=${(/** @type {any} */ event) => ((this.#days = event.target.value), this.update())}
            >
              ${ENDS.map(
                ([days, words]) => html`<option value=${days} ?selected=${days === this.#days}>${words}</option>`,
              )}
            </select>`,
        )}
        <div class="row">
          <button class="btn first" type="submit" ?disabled=${this.#busy}>
            ${this.#busy ? "Making it" : "Make the key"}
          </button>
          <button class="btn plain" type="button" @click=${() => this.done()}>Cancel</button>
        </div>
      </form>
    `;
  }

  #endHint() {
    if (this.#days) return html`<code>expires_at</code>; from then on it is refused`;
    return html`<code>expires_at</code>; it works until it is revoked`;
  }

  /** @param {Scope[]} scopes @param {string | undefined} error */
  #scopesField(scopes, error) {
    const chosen = scopes.filter((one) => this.#scopes.has(one.name));
    return html`<div class="field">
      <span class="label">It may</span>
      ${
        chosen.length
          ? html`<ul class="bullets">
              ${chosen.map((one) => html`<li>${one.description} <code>${one.name}</code></li>`)}
            </ul>`
          : html`<p class="dim">nothing yet: choose a scope</p>`
      }
      ${error ? html`<div class="err"><code>$.scopes</code> ${error}</div>` : ""}
      <details class="fold" ?open=${this.#custom}>
        <summary>Choose the scopes one by one</summary>
        <div class="scopes" role="group" aria-label="Scopes">
          ${scopes.map((one) => {
            const barred = one.name === "public" ? this.#scopes.size > 0 : this.#scopes.has("public");
            return html`<label>
              <input
                type="checkbox"
                .checked=${live(this.#scopes.has(one.name))}
                ?disabled=${barred && !this.#scopes.has(one.name)}
                aria-invalid=${Boolean(error)}
                @change=${(/** @type {any} */ event) => this.#scope(one.name, event.target.checked)}
              /><span><code>${one.name}</code> <span class="hint">${one.description}</span></span></label
            >`;
          })}
        </div>
      </details>
    </div>`;
  }

  /** @param {Schema[]} schemas @param {string | undefined} error */
  #schemasField(schemas, error) {
    const wide = this.#wide();
    if (wide.length)
      return html`<div class="field">
        <span class="label">Schemas</span>
        <p class="dim">Every schema, as <code>${wide[0]}</code> is not about single ones.</p>
      </div>`;
    return html`<fieldset class="bare">
      <legend>Schemas</legend>
      <label class="row"
        ><input type="radio" name="bound" .checked=${live(!this.#bound)} @change=${() => this.#bind(false)} />Every
        schema, also those to come</label
      >
      <label class="row"
        ><input
          type="radio"
          name="bound"
          ?disabled=${!schemas.length}
          .checked=${live(this.#bound)}
          @change=${() => this.#bind(true)}
        />Only some</label
      >
      ${
        this.#bound
          ? html`<div class="scopes" role="group" aria-label="Schemas of the key">
              ${schemas.map(
                (one) =>
                  html`<label
                    ><input
                      type="checkbox"
                      aria-invalid=${Boolean(error)}
                      .checked=${live(this.#schemas.has(one.name))}
                      @change=${(/** @type {any} */ event) => this.#bindTo(one.name, event.target.checked)}
                    /><span>${shown(one.name)}</span
                    >${one.chat_enabled ? "" : html`<span class="hint">takes no chats yet</span>`}</label
                  >`,
              )}
            </div>`
          : ""
      }
      ${error ? html`<div class="err"><code>$.schemas</code> ${error}</div>` : ""}
    </fieldset>`;
  }

  /** @param {boolean} bound */
  #bind(bound) {
    this.#bound = bound;
    this.update();
  }

  /** @param {string} name @param {boolean} on */
  #bindTo(name, on) {
    if (on) this.#schemas.add(name);
    else this.#schemas.delete(name);
    this.update();
  }

  /** @param {string | undefined} error */
  #viewField(error) {
    if (!this.#mayHide() || this.#scopes.has("public")) return "";
    return html`<div class="field">
      <label class="row"
        ><input
          type="checkbox"
          .checked=${live(this.#answers)}
          @change=${(/** @type {any} */ event) => ((this.#answers = event.target.checked), this.update())}
        />Show answers alone</label
      >
      <span class="hint"><code>view</code> public: no tools, reasoning, internal names or cost</span>
      ${error ? html`<div class="err"><code>$.view</code> ${error}</div>` : ""}
    </div>`;
  }

  /** @param {CreatedToken} made */
  #token(made) {
    const purpose = purposeOf(new Set(made.scopes));
    const open = this.known?.value?.schemas.find((one) => one.chat_enabled)?.name;
    const [title, lines] = purpose.lines(made.schemas?.[0] ?? open ?? "SCHEMA", made.token);
    return html`
      <h2 tabindex="-1">The key ${shown(made.name)}</h2>
      <div class="note wait">Its token is shown this once. The engine keeps nothing that it could be read from.</div>
      ${code("Token", made.token, made.token)} ${code(title, lines, lines)}
      <label class="row"
        ><input
          type="checkbox"
          .checked=${live(this.#stored)}
          @change=${(/** @type {any} */ event) => ((this.#stored = event.target.checked), this.update())}
        />I have stored it</label
      >
      <div class="row">
        <button class="btn first" type="button" ?disabled=${!this.#stored} @click=${() => this.done("made")}>
          Close
        </button>
      </div>
    `;
  }
}
customElements.define("bb-new-key", NewKey);
