// The catalog of known models: what there is, what it costs, and what it can do.
import { html } from "../../vendor/lit-html/lit-html.js";
import { int } from "../../core/format.js";
import { setQuery, to } from "../../core/router.js";
import { table } from "../../parts/table.js";

/** @typedef {import("../../../api.ts").CatalogModel} CatalogModel */
/** @typedef {import("../../../api.ts").CatalogProvider} CatalogProvider */

/** Dollars for a million tokens. @param {number | null} price */
export const dollars = (price) => (price === null ? "–" : `$${price.toFixed(2)}`);

/**
 * @param {CatalogModel[]} models
 * @param {CatalogProvider[]} vendors
 * @param {URLSearchParams} query
 * @param {boolean} writes whether the token may add one
 */
export function catalog(models, vendors, query, writes) {
  const names = Object.fromEntries(vendors.map((one) => [one.id, one.display_name]));
  const words = (query.get("q") ?? "").toLowerCase();
  const vendor = query.get("vendor") ?? "";
  const tools = query.get("tools") === "1";
  const found = models.filter(
    (one) =>
      (!words || `${one.id} ${one.display_name} ${one.description}`.toLowerCase().includes(words)) &&
      (!vendor || one.provider === vendor) &&
      (!tools || one.supports_tools),
  );
  const there = vendors.filter((one) => models.some((model) => model.provider === one.id));
  const unknown = vendor && !there.some((one) => one.id === vendor);
  /** @type {import("../../parts/table.js").Column<CatalogModel>[]} */
  const columns = [
    {
      title: "Model",
      cell: (one) =>
        html`<div class="mono">${one.id}</div>
          <div class="meta two">${one.description}</div>`,
    },
    { title: "Vendor", cell: (one) => names[one.provider] ?? one.provider },
    { title: "Tier", cell: (one) => one.tier, label: true },
    { title: "Context", cell: (one) => int(one.context_window), num: true, label: true },
    { title: "In", cell: (one) => dollars(one.pricing_input), num: true, label: true },
    { title: "Out", cell: (one) => dollars(one.pricing_output), num: true, label: true },
  ];
  if (writes)
    columns.push({
      title: "Use it",
      hidden: true,
      num: true,
      cell: (one) =>
        html`<a class="main use" href="${to`/models?new=1&use=${one.id}`}" aria-label="Use ${one.id}">Use</a>`,
    });
  return html`
    <section class="block catalog" aria-label="Catalog">
      <div class="bar">
        <h2>Catalog</h2>
        <span class="meta">built in, works offline · ${models.length} models of ${there.length} vendors</span>
      </div>
      <div class="filters">
        <input
          type="search"
          placeholder="Find a model"
          aria-label="Find a model"
          .value=${query.get("q") ?? ""}
          @input=${(/** @type {any} */ event) => setQuery({ q: event.target.value })}
        />
        <select aria-label="Vendor" @change=${(/** @type {any} */ event) => setQuery({ vendor: event.target.value })}>
          <option value="" .selected=${!vendor}>Any vendor</option>
          ${unknown ? html`<option value=${vendor} .selected=${true}>${vendor} (unknown)</option>` : ""}
          ${there.map(
            (one) => html`<option value=${one.id} .selected=${one.id === vendor}>${one.display_name}</option>`,
          )}
        </select>
        <label class="row">
          <input
            type="checkbox"
            .checked=${tools}
            @change=${(/** @type {any} */ event) => setQuery({ tools: event.target.checked ? "1" : "" })}
          />
          calls tools
        </label>
      </div>
      ${
        found.length
          ? table("Catalog of models, prices in dollars for a million tokens", columns, found, (one) => one.id)
          : html`<p class="dim">
              No known model is like that.
              <button class="btn" type="button" @click=${() => setQuery({ q: "", vendor: "", tools: "" })}>
                Clear filters
              </button>
            </p>`
      }
    </section>
  `;
}
