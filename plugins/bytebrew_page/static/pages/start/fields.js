// The fields of the first steps, and the button that ends each.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { field } from "../../parts/field.js";
import { secret } from "../../parts/secret.js";
import { ADDRESSES, takesKey, ordered } from "./vendors.js";

/** @typedef {import("../../../api.ts").CatalogProvider} CatalogProvider */
/** @typedef {Record<string, string>} Wrong */

/**
 * A line of text.
 * @param {string} label
 * @param {string} path
 * @param {string} value
 * @param {(text: string) => void} write
 * @param {{ hint?: unknown, error?: string, placeholder?: string }} [how]
 */
export const line = (label, path, value, write, { hint, error, placeholder = "" } = {}) =>
  field(
    label,
    path,
    { hint, error },
    (id, described, invalid) =>
      html`<input
        id=${id}
        autocomplete="off"
        spellcheck="false"
        placeholder=${placeholder}
        aria-describedby=${described || nothing}
        aria-invalid=${invalid ? "true" : nothing}
        .value=${live(value)}
        @input=${(/** @type {any} */ event) => write(event.target.value.trim())}
      />`,
  );

/** @param {CatalogProvider[]} vendors @param {CatalogProvider | undefined} chosen @param {boolean} local @param {(id: string) => void} choose */
export const vendorField = (vendors, chosen, local, choose) => html`
  <fieldset class="vendors">
    <legend class="sr">Vendor</legend>
    ${ordered(vendors, local).map(
      (one) =>
        html`<label>
          <input type="radio" name="vendor" .checked=${live(one.id === chosen?.id)} @change=${() => choose(one.id)} />
          ${one.display_name}
        </label>`,
    )}
  </fieldset>
`;

/** @param {CatalogProvider | undefined} vendor @param {string} key @param {Wrong} wrong @param {(key: string) => void} write */
export const keyField = (vendor, key, wrong, write) =>
  field(
    "API key",
    "$.api_key",
    {
      hint: html`Sealed on this machine's disk and sent to ${vendor?.display_name} alone.
      ${
        vendor?.website
          ? html`<a href=${vendor.website} target="_blank" rel="noreferrer"
              >Get one at ${new URL(vendor.website).host}</a
            >`
          : ""
      }`,
      error: wrong["$.api_key"],
    },
    (id, described, invalid) =>
      secret(id, described, {
        value: key,
        invalid,
        placeholder: "Paste it here",
        write: (text) => write(text.trim()),
      }),
  );

/** @param {CatalogProvider | undefined} vendor @param {string} address @param {Wrong} wrong @param {(address: string) => void} write */
export const addressField = (vendor, address, wrong, write) =>
  line("Address", "$.base_url", address, write, {
    hint: html`<code>base_url</code>${vendor && takesKey(vendor) ? "" : ", empty for this machine's own"}`,
    error: wrong["$.base_url"],
    placeholder: ADDRESSES[vendor?.id ?? ""] ?? "https://",
  });

/** @param {CatalogProvider | undefined} vendor @param {string} name @param {Wrong} wrong @param {(name: string) => void} write */
export const nameField = (vendor, name, wrong, write) => {
  const local = vendor?.id === "ollama";
  return line("Model", "$.model_name", name, write, {
    hint: local ? html`as <code>ollama list</code> shows it` : "the vendor's own name of it",
    error: wrong["$.model_name"],
    placeholder: local ? "qwen3:8b" : "",
  });
};

/** The button that ends a step, with what there is to know about it. @param {string} words @param {unknown} hint @param {boolean} off */
export const forward = (words, hint, off) =>
  html`<div class="row wrap">
    <button class="btn first" type="submit" ?disabled=${off}>${words}</button>
    <span class="meta">${hint}</span>
  </div>`;

/** What was refused and belongs to no field. @param {Wrong} wrong */
export const refusal = (wrong) => (wrong[""] ? html`<div class="note fail" role="alert">${wrong[""]}</div>` : "");
