// A form for a setting of the operator's own.
import { html } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { api, part } from "../../core/api.js";
import { say } from "../../core/say.js";
import { View } from "../../core/view.js";
import { faults, field } from "../../parts/field.js";

class OwnSetting extends View {
  #name = "";
  #text = "";
  #busy = false;
  /** @type {Record<string, string>} */
  #wrong = {};

  /** @param {Event} event */
  async #add(event) {
    event.preventDefault();
    this.#wrong = this.#name.trim() ? {} : { "$.key": "write a name" };
    let value;
    try {
      value = JSON.parse(this.#text);
    } catch (error) {
      this.#wrong["$.value"] = `is no JSON: ${/** @type {Error} */ (error).message}`;
    }
    if (!Object.keys(this.#wrong).length) await this.#put(`custom.${this.#name.trim()}`, value);
    this.update();
  }

  /** @param {string} key @param {unknown} value */
  async #put(key, value) {
    this.#busy = true;
    this.update();
    try {
      await api.put(`/settings/${part(key)}`, { value });
      this.#name = this.#text = "";
      say(`${key} is saved`);
      this.dispatchEvent(new Event("saved"));
    } catch (error) {
      this.#wrong = faults(/** @type {import("../../core/api.js").ApiError} */ (error), ["$.value"]);
    }
    this.#busy = false;
  }

  draw() {
    return html`<details class="fold">
      <summary>Add one</summary>
      <form class="stack own" novalidate @submit=${this.#add}>
        ${this.#wrong[""] ? html`<div class="note fail" role="alert">${this.#wrong[""]}</div>` : ""}
        ${field(
          "Name",
          "$.key",
          { hint: html`behind <code>custom.</code>`, error: this.#wrong["$.key"] },
          (id, described, invalid) =>
            html`<input
              id=${id}
              autocomplete="off"
              maxlength="200"
              aria-describedby=${described}
              aria-invalid=${invalid}
              .value=${live(this.#name)}
              @input=${(/** @type {any} */ event) => (this.#name = event.target.value)}
            />`,
        )}
        ${field(
          "Value",
          "$.value",
          {
            hint: html`<code>value</code>, JSON such as <code>"text"</code> or <code>[1, 2]</code>`,
            error: this.#wrong["$.value"],
          },
          (id, described, invalid) =>
            html`<textarea
              id=${id}
              rows="3"
              spellcheck="false"
              aria-describedby=${described}
              aria-invalid=${invalid}
              .value=${live(this.#text)}
              @input=${(/** @type {any} */ event) => (this.#text = event.target.value)}
            ></textarea>`,
        )}
        <div class="row"><button class="btn" type="submit" ?disabled=${this.#busy}>Add</button></div>
      </form>
    </details>`;
  }
}
customElements.define("bb-own-setting", OwnSetting);
