// A budget: what it is of, and how full it is.
import { html } from "../vendor/lit-html/lit-html.js";
import { ago, int, usd } from "../core/format.js";
import { styled } from "../core/style.js";

/** @typedef {import("../../api.ts").BudgetAnswer} Budget */

const WINDOWS = { hour: "an hour", day: "a day", month: "a month" };

/** The most that it allows. @param {Budget} budget */
export const capOf = (budget) => budget.usd ?? budget.tokens ?? 0;

/** The part of it that is used. @param {Budget} budget */
export const share = (budget) => (capOf(budget) ? budget.used / capOf(budget) : 0);

/** A sum beside one that names its unit. @param {Budget} budget @param {number} value */
export const sum = (budget, value) => (budget.usd === null ? int(value) : usd(value));

/** A sum with its unit. @param {Budget} budget @param {number} value */
export const amount = (budget, value) => sum(budget, value) + (budget.usd === null ? " tokens" : "");

/** What it is of: a name and a window. @param {Budget} budget */
export function nameOf(budget) {
  const key = budget.only || budget.key;
  const of = budget.per === "all" ? "all" : `${budget.per} ${key}`.trim();
  return `${budget.name}: ${of}, ${WINDOWS[/** @type {keyof typeof WINDOWS} */ (budget.window)] ?? budget.window}`;
}

/** When it begins anew. @param {Budget} budget */
export const resets = (budget) => `resets ${ago(budget.ends_at)}`;

/** How full it is: used, reserved for calls that run, left. @param {Budget} budget @param {string} [kind] */
export function bar(budget, kind = "bud") {
  const used = Math.min(100, share(budget) * 100);
  const reserved = capOf(budget) ? Math.min(100 - used, (budget.reserved / capOf(budget)) * 100) : 0;
  const label = `${Math.round(share(budget) * 100)} percent used, ${amount(budget, budget.reserved)} reserved`;
  return html`<div class="split ${kind}" role="img" aria-label=${label}>
    <span class=${share(budget) >= budget.soft ? "c2" : "c0"} ${styled({ width: `${used}%` })}></span>
    ${reserved > 0 ? html`<span class="cq" ${styled({ width: `${reserved}%` })}></span>` : ""}
    <span class="rest"></span>
  </div>`;
}
