// A file that is to change the configuration: its plan first, then the change, if nobody else was faster.
import { html } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { ApiError, request } from "../../core/api.js";
import { bytes } from "../../core/format.js";
import { say } from "../../core/say.js";
import { View } from "../../core/view.js";
import { field } from "../../parts/field.js";
import { having, listed, planned, sentence } from "./plan.js";

/** @typedef {import("./plan.js").Plan} Plan */
/** @typedef {import("./plan.js").Problem} Problem */

const MEDIA = "application/x-yaml";

class ConfigImport extends View {
  #text = "";
  #name = "";
  #replace = false;
  #over = false;
  /** @type {"" | "planning" | "applying"} */
  #busy = "";
  /** @type {Plan | null} */
  #plan = null;
  /** @type {Plan | null} */
  #applied = null;
  /** @type {ApiError | null} */
  #error = null;
  #meanwhile = false;
  #count = "";

  /** @param {string} text @param {string} name */
  #take(text, name = "") {
    this.#text = text;
    this.#name = name;
    this.#forget();
  }

  #forget() {
    this.#plan = this.#applied = this.#error = null;
    this.#meanwhile = false;
    this.#count = "";
    this.update();
  }

  /** @param {FileList | null | undefined} files */
  async #read(files) {
    const file = files?.[0];
    if (!file) return;
    this.#take(await file.text(), file.name);
    await this.#look();
  }

  /** @param {Record<string, string>} headers @param {boolean} dryRun @returns {Promise<Plan>} */
  async #send(headers, dryRun) {
    const query = { dry_run: dryRun, mode: this.#replace ? "replace" : "merge" };
    const options = { query, body: this.#text, headers: { "content-type": MEDIA, ...headers }, signal: this.left };
    return (await request("POST", "/config/import", options)).json();
  }

  /** Asks what the file would change. */
  async #look() {
    this.#busy = "planning";
    this.#applied = this.#error = null;
    this.#count = "";
    this.update();
    try {
      this.#plan = await this.#send({}, true);
      say(sentence(this.#plan, "would be"));
    } catch (error) {
      this.#plan = null;
      this.#fail(error);
    }
    this.#busy = "";
    this.update();
  }

  async #apply() {
    const plan = /** @type {Plan} */ (this.#plan);
    this.#busy = "applying";
    this.update();
    try {
      this.#applied = await this.#send({ "if-match": `"${plan.version}"` }, false);
      this.#plan = null;
      this.#meanwhile = false;
      say(sentence(this.#applied, "were"));
    } catch (error) {
      if (error instanceof ApiError && error.status === 412) {
        this.#meanwhile = true;
        await this.#look();
      } else this.#fail(error);
    }
    this.#busy = "";
    this.update();
  }

  /** @param {unknown} error */
  #fail(error) {
    if (this.left.aborted) return;
    this.#error = /** @type {ApiError} */ (error);
    queueMicrotask(() =>
      queueMicrotask(() => /** @type {HTMLElement} */ (this.querySelector("[role=alert]"))?.focus()),
    );
  }

  /** Shows where a problem is. @param {Problem} problem */
  #goTo({ line = 1, column = 1 }) {
    const area = /** @type {HTMLTextAreaElement} */ (this.querySelector("textarea"));
    const lines = this.#text.split("\n");
    const start = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
    area.focus();
    area.setSelectionRange(start + column - 1, start + (lines[line - 1]?.length ?? 0));
    area.scrollTop = (area.scrollHeight / lines.length) * Math.max(0, line - 4);
  }

  draw() {
    return html`
      <div
        class="drop-file ${this.#over ? "over" : ""}"
        @dragover=${this.#drag}
        @dragleave=${this.#drag}
        @drop=${(/** @type {DragEvent} */ event) => (this.#drag(event), this.#read(event.dataTransfer?.files))}
      >
        <label class="btn" for="config-file">Choose a file</label>
        <input
          class="sr"
          type="file"
          id="config-file"
          accept=".yaml,.yml,.json"
          @change=${(/** @type {any} */ event) => (this.#read(event.target.files), (event.target.value = ""))}
        />
        <span class="dim">or drop one here, or paste it below. Nothing changes before you have seen what would.</span>
      </div>
      ${field(
        "The file",
        "$",
        {
          hint: this.#name
            ? `${this.#name}, ${bytes(new Blob([this.#text]).size)}`
            : "YAML or JSON, as an export has it",
        },
        (id, described) =>
          html`<textarea
            id=${id}
            rows="14"
            spellcheck="false"
            autocomplete="off"
            aria-describedby=${described}
            .value=${live(this.#text)}
            @input=${(/** @type {any} */ event) => this.#take(event.target.value)}
          ></textarea>`,
      )}
      <div class="row wrap">
        <div class="grow">
          <label class="row"
            ><input
              type="checkbox"
              .checked=${live(this.#replace)}
              @change=${(/** @type {any} */ event) => ((this.#replace = event.target.checked), this.#forget())}
            />Delete what its sections leave out</label
          >
          <span class="hint"><code>mode</code> replace. Without it, what the file does not name stays.</span>
        </div>
        <button
          class="btn ${this.#plan || this.#applied ? "" : "first"}"
          type="button"
          ?disabled=${!this.#text.trim() || Boolean(this.#busy)}
          @click=${this.#look}
        >
          ${this.#busy === "planning" ? "Looking" : "See what changes"}
        </button>
      </div>
      ${this.#error ? this.#wrong(this.#error) : ""} ${this.#plan ? this.#planned(this.#plan) : ""}
      ${this.#applied ? this.#done(this.#applied) : ""}
    `;
  }

  /** @param {DragEvent} event */
  #drag(event) {
    event.preventDefault();
    this.#over = event.type === "dragover";
    this.update();
  }

  /** @param {ApiError} error */
  #wrong({ message, code, details }) {
    return html`<div class="note fail" role="alert" tabindex="-1">
        <b>${details.length ? `${details.length} ${details.length === 1 ? "problem" : "problems"}.` : message}</b>
        ${details.length ? "Nothing was changed." : html`<code>${code}</code>`}
      </div>
      ${details.length ? listed(details, this.#text, (one) => this.#goTo(one)) : ""}`;
  }

  /** @param {Plan} plan */
  #planned(plan) {
    const gone = having(plan, "delete").length;
    const changed = plan.changes.some((one) => one.action !== "unchanged");
    return html`<section class="stack plan" aria-label="Plan">
      <h2 tabindex="-1">${sentence(plan, "would be")}</h2>
      ${
        this.#meanwhile
          ? html`<div class="note wait" role="alert">
              The configuration was changed by somebody else, so nothing was applied. This is the plan for what is there
              now.
            </div>`
          : ""
      }
      ${this.#warnings(plan)} ${planned(plan, false)} ${gone ? this.#countField(gone) : ""}
      ${
        changed
          ? html`<div class="row">
              <button
                class="btn ${gone ? "no" : "first"}"
                type="button"
                ?disabled=${Boolean(this.#busy) || (gone > 0 && this.#count.trim() !== String(gone))}
                @click=${this.#apply}
              >
                ${this.#busy === "applying" ? "Applying" : gone ? `Apply, and delete ${gone}` : "Apply"}
              </button>
              <button class="btn plain" type="button" @click=${this.#forget}>Leave it</button>
            </div>`
          : ""
      }
    </section>`;
  }

  /** @param {number} gone */
  #countField(gone) {
    return field(
      `Write ${gone} to delete ${gone} ${gone === 1 ? "item" : "items"}`,
      "$.count",
      { hint: "They are listed above in red. Their versions are deleted with them." },
      (id, described) =>
        html`<input
          id=${id}
          class="short"
          inputmode="numeric"
          autocomplete="off"
          aria-describedby=${described}
          .value=${live(this.#count)}
          @input=${(/** @type {any} */ event) => ((this.#count = event.target.value), this.update())}
        />`,
    );
  }

  /** @param {Plan} plan */
  #warnings({ warnings }) {
    if (!warnings.length) return "";
    return html`<div class="note wait">
        ${warnings.length} ${warnings.length === 1 ? "warning" : "warnings"}, which do not stop the import.
      </div>
      ${listed(warnings, this.#text, (one) => this.#goTo(one))}`;
  }

  /** @param {Plan} plan */
  #done(plan) {
    return html`<section class="stack plan" aria-label="What was applied">
      <div class="note ok" role="status"><b>Applied.</b> ${sentence(plan, "were")}</div>
      ${this.#warnings(plan)} ${planned(plan, true)}
    </section>`;
  }
}
customElements.define("bb-config-import", ConfigImport);
