// What every page begins with, and what it shows where there is nothing yet.
import { html } from "../vendor/lit-html/lit-html.js";

/**
 * The head of a page: its name, which takes the focus after navigation, a sentence, and what can be done.
 * @param {unknown} title
 * @param {{ words?: unknown, acts?: unknown, crumb?: unknown }} [more]
 */
export const head = (title, { words, acts, crumb } = {}) => html`
  <header class="head">
    <div class="grow">
      ${crumb ? html`<p class="crumb">${crumb}</p>` : ""}
      <h1 tabindex="-1">${title}</h1>
      ${words ? html`<p>${words}</p>` : ""}
    </div>
    ${acts ? html`<div class="row wrap acts">${acts}</div>` : ""}
  </header>
`;

/** Where there is nothing yet: what would be here, why, and the one thing that makes it so. @param {string} title @param {unknown} why @param {unknown} [act] */
export const empty = (title, why, act) => html`
  <div class="empty">
    <h2>${title}</h2>
    <p>${why}</p>
    ${act ?? ""}
  </div>
`;

/** A moment, relative within a day, with the whole of it as its title. @param {string | null | undefined} at @param {(at: string) => string} form @param {(at: string) => string} whole */
export const time = (at, form, whole) => (at ? html`<time datetime=${at} title=${whole(at)}>${form(at)}</time>` : "–");
