// Budgets: where each stands, and a dialog that makes or changes one.
import { html } from "../../vendor/lit-html/lit-html.js";
import { may } from "../../core/caller.js";
import { failed } from "../../core/resource.js";
import { shown } from "../../core/text.js";
import { amount, bar, capOf, nameOf, resets, sum } from "../../parts/budget.js";
import { edit } from "./budget_dialog.js";

/** @typedef {import("../../../api.ts").BudgetAnswer} Budget */

/** @param {import("../../core/resource.js").Resource<Budget[]>} budgets @param {string} chosen the name of one that a link is about */
export function budgets(budgets, chosen) {
  if (budgets.error && !budgets.at) {
    const { status } = /** @type {any} */ (budgets.error);
    if (status === 403 || status === 404) return "";
  }
  const change = async (/** @type {Budget | null} */ budget) => {
    if (await edit(budget)) await budgets.reload();
  };
  const writes = may("config");
  const create = writes
    ? html`<button class="btn plain" type="button" @click=${() => change(null)}>New budget</button>`
    : "";
  const found = budgets.value ?? [];
  return html`<section class="block" aria-labelledby="budgets">
    <div class="bar">
      <h2 id="budgets">Budgets</h2>
      ${create}
    </div>
    ${budgets.error ? failed(budgets.error, budgets.at, () => budgets.reload()) : ""}
    ${
      budgets.value && !found.length
        ? html`<p class="dim">
            No budget caps what model calls may cost. One of the whole engine, a day, is a good first.
          </p>`
        : ""
    }
    <ul class="list">
      ${found.map(
        (one) =>
          html`<li class="bud" aria-current=${one.name === chosen ? "true" : "false"}>
            <div class="line">
              <strong>${shown(nameOf(one))}</strong>
              <span class="meta">${resets(one)}${one.over > 0 ? `, ${amount(one, one.over)} over the cap` : ""}</span>
            </div>
            ${bar(one)}
            <div class="num amt">
              <b>${sum(one, one.used)}</b> of ${amount(one, capOf(one))}
              <div class="meta">${sum(one, one.reserved)} reserved</div>
            </div>
            ${
              writes
                ? html`<button
                    class="btn plain"
                    type="button"
                    aria-label="Change the budget ${one.name}"
                    @click=${() => change(one)}
                  >
                    Change
                  </button>`
                : ""
            }
          </li>`,
      )}
    </ul>
  </section>`;
}
