// A field for a secret: it goes in and never out, and can be looked at while it is written.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { live } from "../vendor/lit-html/directives/live.js";

/**
 * @param {string} id
 * @param {string} described the id of its hint, "" for none
 * @param {{ value: string, stored?: boolean, invalid?: boolean, placeholder?: string, write: (text: string) => void }} how
 */
export const secret = (id, described, { value, stored, invalid, placeholder = "", write }) => html`
  <div class="secret">
    <input
      id=${id}
      type="password"
      autocomplete="off"
      spellcheck="false"
      placeholder=${stored ? "stored; write to replace" : placeholder}
      aria-describedby=${described || nothing}
      aria-invalid=${invalid ? "true" : nothing}
      .value=${live(value)}
      @input=${(/** @type {InputEvent} */ event) => write(/** @type {HTMLInputElement} */ (event.target).value)}
    />
    <button class="btn" type="button" aria-controls=${id} aria-pressed="false" @click=${toggle}>Show</button>
  </div>
`;

/** Shows what is written, or hides it. @param {MouseEvent} event */
function toggle(event) {
  const button = /** @type {HTMLButtonElement} */ (event.currentTarget);
  const input = /** @type {HTMLInputElement} */ (button.previousElementSibling);
  const hidden = input.type === "password";
  input.type = hidden ? "text" : "password";
  button.setAttribute("aria-pressed", String(hidden));
  button.textContent = hidden ? "Hide" : "Show";
}
