// How the last 24 hours went: health, four figures, three plots.
import { html } from "../../vendor/lit-html/lit-html.js";
import { api } from "../../core/api.js";
import { big, int, ms, usd } from "../../core/format.js";
import { amount, capOf } from "../../parts/budget.js";
import { state } from "../../parts/state.js";
import { plots } from "../../parts/statistics.js";

/** @typedef {import("../../../api.ts").Statistics} Statistics */
/** @typedef {import("../../../api.ts").Health} Health */
/** @template T @typedef {import("../../core/resource.js").Resource<T>} Resource */

/** @param {AbortSignal} signal @returns {Promise<Statistics>} */
export const statistics = (signal) => api.get("/stats", { bucket: "hour", tz: ZONE }, signal);

const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;

/**
 * @param {Resource<Statistics>} statistics
 * @param {Resource<Health>} health
 * @param {import("../../../api.ts").BudgetAnswer | undefined} budget what a day may cost in all
 */
export function today(statistics, health, budget) {
  return html`
    <div class="bar">
      <h2>Last 24 hours</h2>
      ${healthy(health)}
    </div>
    ${
      /** @type {any} */ (statistics.error)?.status === 403
        ? html`<p class="dim">Statistics need the scope <code>admin</code>.</p>`
        : statistics.shown((found) => figures(found, budget))
    }
  `;
}

/** @param {Resource<Health>} health */
function healthy(health) {
  if (health.error) return state("alert", "engine degraded");
  if (!health.value) return "";
  return health.value.status === "ok" ? state("ok", "engine healthy") : state("alert", `engine ${health.value.status}`);
}

/** @param {Statistics} statistics @param {import("../../../api.ts").BudgetAnswer | undefined} budget */
function figures({ total, data }, budget) {
  const cached = total.input_tokens ? Math.round((total.cached_tokens / total.input_tokens) * 100) : 0;
  const cost = budget
    ? `today ${usd(budget.used)} of ${amount(budget, capOf(budget))}`
    : total.unpriced_calls
      ? `${int(total.unpriced_calls)} of ${int(total.calls)} calls have no price`
      : `${int(total.calls)} model calls`;
  /** @type {[string, string, string][]} */
  const all = [
    ["Turns", int(total.turns), `${int(total.failed)} failed`],
    ["Cost", usd(total.cost_usd), cost],
    ["First token", ms(total.first_token_ms_p50), `p95 ${ms(total.first_token_ms_p95)}`],
    ["Tokens", big(total.input_tokens + total.output_tokens), `${cached} % cached`],
  ];
  const [turns, first, , spent] = plots(data, "hour");
  return html`
    <dl class="figures">
      ${all.map(
        ([name, value, words]) =>
          html`<div>
            <dt>${name}</dt>
            <dd>${value} <small>${words}</small></dd>
          </div>`,
      )}
    </dl>
    <bb-plot .data=${turns}></bb-plot>
    <bb-plot .data=${first}></bb-plot>
    <bb-plot .data=${spent}></bb-plot>
  `;
}
