// The fields of a model: what the form shows, and what it sends.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { field } from "../../parts/field.js";
import { secret } from "../../parts/secret.js";

/** @typedef {import("../../../api.ts").Model} Model */
/** @typedef {import("../../../api.ts").CatalogModel} CatalogModel */

/**
 * What is written in the form, as text as it stands there.
 * @typedef {{ name: string, type: string, model_name: string, base_url: string, api_key: string, api_version: string, kind: string, embedding_dim: string, pricing_input: string, pricing_output: string, fallback: string[], is_default: boolean }} Draft
 */

export const PATHS = [
  ...["name", "type", "model_name", "base_url", "api_key", "api_version", "kind", "embedding_dim"],
  ...["pricing_input", "pricing_output", "fallback", "is_default"],
].map((name) => `$.${name}`);

/** @param {Model | null} model @returns {Draft} */
export const draftOf = (model) => ({
  name: model?.name ?? "",
  type: model?.type ?? "",
  model_name: model?.model_name ?? "",
  base_url: model?.base_url ?? "",
  api_key: "",
  api_version: model?.api_version ?? "",
  kind: model?.kind ?? "chat",
  embedding_dim: String(model?.embedding_dim ?? ""),
  pricing_input: String(model?.pricing_input ?? ""),
  pricing_output: String(model?.pricing_output ?? ""),
  fallback: [...(model?.fallback ?? [])],
  is_default: model?.is_default ?? false,
});

/** A name for a model in the configuration: its own, in the characters that names have. @param {string} id */
export const nameOf = (id) =>
  id
    .toLowerCase()
    .replace(/^.*\//, "")
    .replace(/[^a-z0-9._-]+/g, "-")
    .replace(/^[^a-z0-9]+/, "")
    .slice(0, 60);

const number = (/** @type {string} */ text) => (text.trim() === "" ? null : Number(text));

/** What is sent: of a model that is there, only what has changed. @param {Draft} draft @param {Model | null} model */
export function bodyOf(draft, model) {
  /** @type {Record<string, any>} */
  const whole = {
    ...draft,
    embedding_dim: number(draft.embedding_dim),
    pricing_input: number(draft.pricing_input),
    pricing_output: number(draft.pricing_output),
  };
  const was = draftOf(model);
  const same = (/** @type {keyof Draft} */ name) => JSON.stringify(draft[name]) === JSON.stringify(was[name]);
  const left = model ? /** @type {(keyof Draft)[]} */ (Object.keys(draft)).filter(same) : [];
  for (const name of left) delete whole[name];
  return whole;
}

/**
 * @param {Draft} draft
 * @param {Record<string, string>} wrong
 * @param {{ model: Model | null, types: string[], vendors: Record<string, string>, known: CatalogModel[], others: Model[] }} about
 * @param {(change: Partial<Draft>) => void} change
 */
export function fields(draft, wrong, { model, types, vendors, known, others }, change) {
  /** @param {keyof Draft} name */
  const text = (name, /** @type {Record<string, any>} */ more = {}) =>
    control(
      name,
      (id, described, invalid) =>
        html`<input
          id=${id}
          autocomplete="off"
          inputmode=${more.inputmode ?? nothing}
          list=${more.list ?? nothing}
          ?readonly=${more.readonly}
          ?required=${more.required}
          aria-describedby=${described || nothing}
          aria-invalid=${invalid ? "true" : nothing}
          .value=${live(String(draft[name]))}
          @input=${(/** @type {any} */ event) => change({ [name]: event.target.value })}
        />`,
    );
  /** @type {(name: keyof Draft, draw: (id: string, described: string, invalid: boolean) => unknown) => any} */
  const control = (name, draw) => (/** @type {string} */ label, /** @type {unknown} */ hint) =>
    field(label, `$.${name}`, { hint, error: wrong[`$.${name}`] }, draw);
  const fitting = known.filter((one) => one.provider === draft.type);
  const price = fitting.find((one) => one.id === draft.model_name);
  return html`
    ${control(
      "type",
      (id, described, invalid) =>
        html`<select
          id=${id}
          aria-describedby=${described || nothing}
          aria-invalid=${invalid ? "true" : nothing}
          @change=${(/** @type {any} */ event) => change({ type: event.target.value })}
        >
          ${[...new Set([draft.type, ...types])]
            .filter(Boolean)
            .map((one) => html`<option value=${one} .selected=${one === draft.type}>${vendors[one] ?? one}</option>`)}
        </select>`,
    )("Vendor", html`<code>type</code>, how the engine talks to it`)}
    ${text("model_name", { list: "known-models", required: true })("Model", html`<code>model_name</code>, the vendor's own name`)}
    <datalist id="known-models">
      ${fitting.map((one) => html`<option value=${one.id}>${one.display_name}</option>`)}
    </datalist>
    ${text("name", { readonly: model !== null, required: true })(
      "Name",
      model
        ? html`<code>name</code>, is fixed`
        : html`<code>name</code>, what agents call it: lower case, digits, dashes`,
    )}
    ${control("api_key", (id, described, invalid) =>
      secret(id, described, {
        value: draft.api_key,
        stored: model?.has_api_key,
        invalid,
        write: (api_key) => change({ api_key }),
      }),
    )("API key", html`<code>api_key</code>, sealed on disk. In no answer, log, export or audit row.`)}
    ${text("base_url", { inputmode: "url" })("Address", html`<code>base_url</code>, empty for the vendor's own`)}
    <details
      class="more"
      ?open=${["$.api_version", "$.pricing_input", "$.pricing_output", "$.fallback", "$.embedding_dim"].some((path) => wrong[path])}
    >
      <summary>Prices, fallback and more</summary>
      <div class="stack">
        <div class="grid2">
          ${text("pricing_input", { inputmode: "decimal" })("Price in", html`<code>pricing_input</code>, dollars for a million tokens${price ? html`; the catalog's is ${price.pricing_input}` : ""}`)}
          ${text("pricing_output", { inputmode: "decimal" })("Price out", html`<code>pricing_output</code>${price ? html`; the catalog's is ${price.pricing_output}` : ""}`)}
        </div>
        ${control(
          "fallback",
          (id, described, invalid) =>
            html`<select
              id=${id}
              multiple
              size=${Math.min(4, Math.max(2, others.length))}
              aria-describedby=${described || nothing}
              aria-invalid=${invalid ? "true" : nothing}
              @change=${(/** @type {any} */ event) =>
                change({ fallback: [...event.target.selectedOptions].map((one) => one.value) })}
            >
              ${others.map(
                (one) =>
                  html`<option value=${one.name} .selected=${draft.fallback.includes(one.name)}>${one.name}</option>`,
              )}
            </select>`,
        )("Falls back to", html`<code>fallback</code>, models that answer while it cannot, in this order`)}
        ${text("api_version")("API version", html`<code>api_version</code>, for Azure alone`)}
        ${control(
          "kind",
          (id, described, invalid) =>
            html`<select
              id=${id}
              ?disabled=${model !== null}
              aria-describedby=${described || nothing}
              aria-invalid=${invalid ? "true" : nothing}
              @change=${(/** @type {any} */ event) => change({ kind: event.target.value })}
            >
              ${["chat", "embedding"].map(
                (one) => html`<option value=${one} .selected=${one === draft.kind}>${one}</option>`,
              )}
            </select>`,
        )("Kind", html`<code>kind</code>${model ? ", is fixed" : ", what it is for"}`)}
        ${draft.kind === "embedding" ? text("embedding_dim", { inputmode: "numeric" })("Dimensions", html`<code>embedding_dim</code>, 1 to 65536; empty for the vendor's own`) : ""}
      </div>
    </details>
    ${
      draft.kind === "chat"
        ? html`<label class="row">
            <input
              type="checkbox"
              .checked=${live(draft.is_default)}
              ?disabled=${model?.is_default}
              @change=${(/** @type {any} */ event) => change({ is_default: event.target.checked })}
            />
            Agents that name no model use this one
          </label>`
        : ""
    }
  `;
}
