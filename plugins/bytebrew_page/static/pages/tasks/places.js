// Where else the pages of tasks lead.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { may } from "../../core/caller.js";

/** @type {[string, string][]} */
const PLACES = [
  ["", "Tasks"],
  ["schedules", "Schedules"],
  ["webhooks", "Webhooks"],
  ["callbacks", "Callbacks"],
];

/** Links to the parts of the page; the current one is marked. @param {string} current */
export const places = (current) =>
  may("config")
    ? html`<nav class="seg" aria-label="Parts of tasks">
        ${PLACES.map(
          ([word, title]) =>
            html`<a href="/tasks${word && `/${word}`}" aria-current=${word === current ? "page" : nothing}
              >${title}</a
            >`,
        )}
      </nav>`
    : "";

/** The crumb of a page below one of them. @param {string} word */
export const crumb = (word) => {
  const [, title] = PLACES.find(([one]) => one === word) ?? PLACES[0];
  return html`<a href="/tasks${word && `/${word}`}">${title}</a>`;
};
