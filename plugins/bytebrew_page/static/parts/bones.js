// What stands where a table comes from: its head, and three rows of bars.
import { html } from "../vendor/lit-html/lit-html.js";
import { styled } from "../core/style.js";

const WIDTHS = ["70%", "90%", "50%"];

/** @param {string[]} titles of its columns */
export const bones = (titles) => html`
  <table aria-hidden="true">
    <thead>
      <tr>
        ${titles.map((title) => html`<th>${title}</th>`)}
      </tr>
    </thead>
    <tbody>
      ${WIDTHS.map(
        (width) =>
          html`<tr>
            ${titles.map(() => html`<td><span class="bone" ${styled({ width })}></span></td>`)}
          </tr>`,
      )}
    </tbody>
  </table>
  <p class="sr" role="status">Loading</p>
`;
