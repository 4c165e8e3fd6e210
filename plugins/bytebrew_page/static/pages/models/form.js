// The form of a model, for a new one and for one that is there.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { ApiError, api, part } from "../../core/api.js";
import { go, to } from "../../core/router.js";
import { View } from "../../core/view.js";
import { checks, fault, verdict } from "../../parts/checks.js";
import { faults } from "../../parts/field.js";
import { PATHS, bodyOf, draftOf, fields, nameOf } from "./fields.js";

/** @typedef {import("../../../api.ts").Model} Model */
/** @typedef {import("../../../api.ts").CatalogModel} CatalogModel */
/** @typedef {import("../../../api.ts").CatalogProvider} CatalogProvider */
/** @typedef {import("../../../api.ts").Verification} Verification */

/** `<bb-model-form .data=${...}>`; it dispatches `changed` after it has saved. */
class ModelForm extends View {
  /** @type {{ model: Model | null, use: string, models: Model[], known: CatalogModel[], vendors: CatalogProvider[] } | null} */
  #data = null;
  #draft = draftOf(null);
  #busy = "";
  /** @type {ApiError | null} */
  #error = null;
  /** @type {Verification | null} */
  #tried = null;

  /** @param {{ model: Model | null, use: string, models: Model[], known: CatalogModel[], vendors: CatalogProvider[] }} data */
  set data(data) {
    const was = this.#data;
    this.#data = data;
    if (was?.model?.name !== data.model?.name || was?.use !== data.use || !was) {
      this.#draft = draftOf(data.model);
      if (!data.model) this.#begin(data.use);
      this.#error = this.#tried = null;
    }
    this.update();
  }

  /** A new model as the catalog has it. @param {string} id */
  #begin(id) {
    const known = this.#data?.known.find((one) => one.id === id);
    this.#draft.type = known?.provider ?? this.#data?.vendors[0]?.id ?? "";
    if (known) this.#change({ model_name: known.id });
  }

  /** @param {Partial<import("./fields.js").Draft>} change */
  #change(change) {
    const named = this.#draft.name !== nameOf(this.#draft.model_name);
    this.#draft = { ...this.#draft, ...change };
    if (change.model_name !== undefined && !this.#data?.model && !named) this.#draft.name = nameOf(change.model_name);
    this.#tried = null;
    this.update();
  }

  get #body() {
    return bodyOf(this.#draft, this.#data?.model ?? null);
  }

  /** @param {string} what @param {() => Promise<void>} run */
  async #act(what, run) {
    this.#busy = what;
    this.#error = this.#tried = null;
    this.update();
    try {
      await run();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#error = error;
    } finally {
      this.#busy = "";
      this.update();
    }
    if (this.#error)
      queueMicrotask(() => /** @type {HTMLElement | null} */ (this.querySelector("[aria-invalid=true]"))?.focus());
  }

  #save() {
    return this.#act("save", async () => {
      const model = this.#data?.model;
      const saved = model
        ? await api.patch(`/models/${part(model.name)}`, this.#body)
        : await api.post("/models", this.#body, { headers: { "idempotency-key": crypto.randomUUID() } });
      this.#draft.api_key = "";
      go(to`/models?name=${saved.name}`);
      this.dispatchEvent(new CustomEvent("changed", { bubbles: true }));
    });
  }

  /** Verifies what is written, without storing it. */
  #try() {
    return this.#act("try", async () => {
      const { type, model_name, base_url, api_key, api_version, kind } = this.#draft;
      this.#tried = await api.post("/models/verify", { type, model_name, base_url, api_key, api_version, kind });
    });
  }

  draw() {
    const data = this.#data;
    if (!data) return nothing;
    const { model } = data;
    const wrong = faults(this.#error, PATHS);
    const unchanged = model !== null && !Object.keys(this.#body).length;
    const vendors = Object.fromEntries(data.vendors.map((one) => [one.id, one.display_name]));
    const about = {
      model,
      types: data.vendors.map((one) => one.id),
      vendors,
      known: data.known,
      others: data.models.filter((one) => one.kind === "chat" && one.name !== model?.name),
    };
    const busy = this.#busy !== "";
    return html`<form
      class="stack"
      novalidate
      @submit=${(/** @type {SubmitEvent} */ event) => (event.preventDefault(), this.#save())}
    >
      <h2 tabindex="-1">${model ? `Edit ${model.name}` : "Add a model"}</h2>
      ${wrong[""] ? html`<div class="note fail" role="alert">${wrong[""]}</div>` : ""}
      ${fields(this.#draft, wrong, about, (change) => this.#change(change))} ${this.#busy === "try" ? checks(null) : ""}
      ${
        this.#tried
          ? html`${checks(this.#tried)}
            ${fault(this.#tried) ? verdict(this.#tried) : html`<p class="dim">It works.</p>`}`
          : ""
      }
      <div class="row wrap">
        <button class="btn first" type="submit" ?disabled=${busy || unchanged}>Save</button>
        ${
          model
            ? ""
            : html`<button
                class="btn"
                type="button"
                ?disabled=${busy || !this.#draft.model_name}
                @click=${() => this.#try()}
              >
                Verify first
              </button>`
        }
        <a class="btn plain" href=${model ? to`/models?name=${model.name}` : "/models"}>Cancel</a>
      </div>
    </form>`;
  }
}
customElements.define("bb-model-form", ModelForm);
