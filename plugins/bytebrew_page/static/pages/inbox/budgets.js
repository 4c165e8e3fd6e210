// Budgets near their cap.
import { html } from "../../vendor/lit-html/lit-html.js";
import { shown } from "../../core/text.js";
import { amount, bar, capOf, nameOf, resets, share, sum } from "../../parts/budget.js";

/** @typedef {import("../../../api.ts").BudgetAnswer} Budget */

/** @param {import("../../core/resource.js").Resource<Budget[]>} budgets */
export function near(budgets) {
  const found = (budgets.value ?? []).filter((one) => share(one) >= one.soft);
  if (!found.length) return "";
  return html`<section class="block" aria-labelledby="near">
    <div class="bar"><h2 id="near" tabindex="-1">Budgets near their cap · ${found.length}</h2></div>
    <ul class="list">
      ${found.map(
        (one) =>
          html`<li>
            <div class="line">
              <strong>${shown(nameOf(one))}</strong>
              <span class="meta">${sum(one, one.used)} of ${amount(one, capOf(one))} · ${resets(one)}</span>
            </div>
            ${bar(one, "small")}
            <b class="num">${Math.round(share(one) * 100)} %</b>
            <a
              class="btn go"
              href="/usage?budget=${encodeURIComponent(one.name)}"
              aria-label="Raise the budget ${one.name}"
              >Raise</a
            >
          </li>`,
      )}
    </ul>
  </section>`;
}

/** The budget that says what a day may cost in all, if there is one. @param {Budget[] | undefined} budgets */
export const spent = (budgets) => budgets?.find((one) => one.per === "all" && one.window === "day" && one.usd !== null);
