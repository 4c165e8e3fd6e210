// Models of a vendor to choose from: the best few, and all on demand.
import { html } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { int } from "../../core/format.js";
import { setQuery } from "../../core/router.js";
import { dollars } from "../models/catalog.js";

/** @typedef {import("../../../api.ts").CatalogModel} CatalogModel */

const FEW = 3;

/**
 * @param {CatalogModel[]} known
 * @param {string} chosen
 * @param {boolean} all
 * @param {(id: string) => void} choose
 */
export function choose(known, chosen, all, choose) {
  const ranked = known.toSorted((a, b) => Number(b.supports_tools) - Number(a.supports_tools) || a.tier - b.tier);
  const few = ranked.filter((one) => one.supports_tools).slice(0, FEW);
  const shown = all || !few.length ? ranked : ranked.filter((one) => few.includes(one) || one.id === chosen);
  return html`<fieldset class="bare">
      <legend class="sr">Model</legend>
      <ul class="list pick">
        ${shown.map(
          (one) =>
            html`<li>
              <label class="row grow">
                <input type="radio" name="model" .checked=${live(one.id === chosen)} @change=${() => choose(one.id)} />
                <span class="line"
                  ><strong>${one.id}</strong
                  ><span class="meta"
                    >${one.supports_tools ? "calls tools" : "calls no tools"} · ${int(one.context_window)} tokens</span
                  ></span
                >
                <span class="dim nw">${dollars(one.pricing_input)} / ${dollars(one.pricing_output)}</span>
              </label>
            </li>`,
        )}
      </ul>
    </fieldset>
    ${
      shown.length < ranked.length
        ? html`<p>
            <button class="btn plain" type="button" @click=${() => setQuery({ all: "1" })}>All ${ranked.length}</button>
          </p>`
        : ""
    }`;
}
