// Where the time of a turn went, in one line.
import { html } from "../../vendor/lit-html/lit-html.js";
import { ms } from "../../core/format.js";
import { styled } from "../../core/style.js";

/** @type {[string, string, string][]} */
const PARTS = [
  ["person", "Waiting for a person", "c-person"],
  ["model", "Models", "c-model"],
  ["tool", "Tools", "c-tool"],
  ["queue", "In the queue", "c-queue"],
  ["engine", "Engine", "c-engine"],
];

/** @param {Record<string, number>} sums milliseconds by kind @param {number} total */
export function split(sums, total) {
  const parts = PARTS.filter(([kind]) => sums[kind] > 0);
  const words = parts.map(([kind, name]) => `${name} ${ms(sums[kind])}`).join(", ");
  return html`<section aria-label="Where the time went">
    <h2 class="sr">Where the time went</h2>
    <div class="split" role="img" aria-label=${words}>
      ${parts.map(([kind, , look]) => html`<span class=${look} ${styled({ width: `${(100 * sums[kind]) / total}%` })}></span>`)}
    </div>
    <div class="legend">
      ${parts.map(
        ([kind, name, look]) =>
          html`<span class="k"
            ><i class=${look}></i>${name} <b>${ms(sums[kind])}</b>
            <span class="meta">${Math.round((100 * sums[kind]) / total)} %</span></span
          >`,
      )}
    </div>
  </section>`;
}
