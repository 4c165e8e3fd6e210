// Tables: rows with a link as their title, which turn into two lines on a phone.
import { html } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";

/**
 * A column: its title, what a row has there, and how. `num` stands at the end edge; `label` is said on a phone.
 * @template T
 * @typedef {{ title: string, cell: (row: T) => unknown, num?: boolean, nowrap?: boolean, label?: boolean, hidden?: boolean }} Column
 */

/**
 * @template T
 * @param {string} caption for readers of the screen
 * @param {Column<T>[]} columns
 * @param {T[]} rows
 * @param {(row: T) => string} key
 * @param {{ current?: string }} [how] the key of the chosen row
 */
export const table = (caption, columns, rows, key, { current } = {}) => html`
  <div class="scroll">
    <table class="stacks">
      <caption class="sr">
        ${caption}
      </caption>
      <thead>
        <tr>
          ${columns.map(
            (one) =>
              html`<th scope="col" class=${one.num ? "num" : ""}>
                ${one.hidden ? html`<span class="sr">${one.title}</span>` : one.title}
              </th>`,
          )}
        </tr>
      </thead>
      <tbody @click=${open}>
        ${repeat(
          rows,
          key,
          (row) =>
            html`<tr class="link" aria-current=${key(row) === current ? "true" : "false"}>
              ${columns.map(
                (one) =>
                  html`<td class=${one.num ? "num" : one.nowrap ? "nw" : ""} data-label=${one.label ? one.title : ""}>
                    ${one.cell(row)}
                  </td>`,
              )}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>
`;

/** The whole row opens its link, unless something in it was meant. @param {MouseEvent} event */
function open(event) {
  const target = /** @type {Element} */ (event.target);
  if (target.closest("a, button, input, select, label, summary") || getSelection()?.toString()) return;
  /** @type {HTMLElement | null | undefined} */ (target.closest("tr")?.querySelector("a.main"))?.click();
}
