// Code to read and to copy.
import { html } from "../vendor/lit-html/lit-html.js";
import { shown } from "../core/text.js";
import { View } from "../core/view.js";
import { copy } from "./toast.js";

/** A block of code; `text` is what Copy takes. @param {string} title @param {unknown} body @param {string} text */
export const code = (title, body, text) => html`
  <div class="code">
    <div class="bar">
      <span class="grow">${shown(title)}</span>
      <button type="button" aria-label="Copy ${title}" @click=${() => copy(text)}>Copy</button>
    </div>
    <pre tabindex="0" aria-label=${title}>${body}</pre>
  </div>
`;

/** The same in several languages: `<bb-examples .examples=${{ curl: "...", Python: "..." }}>`; `chosen` is the event of another one. */
class Examples extends View {
  #chosen = "";
  /** @type {Record<string, string>} */
  #examples = {};

  /** @param {Record<string, string>} examples */
  set examples(examples) {
    this.#examples = examples;
    this.update();
  }

  /** @param {string} name */
  set chosen(name) {
    this.#chosen = name;
    this.update();
  }

  /** @param {string} name */
  #choose(name) {
    this.chosen = name;
    this.dispatchEvent(new CustomEvent("chosen", { detail: name }));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const names = Object.keys(this.#examples);
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = names.indexOf(this.#chosen in this.#examples ? this.#chosen : names[0]);
    this.#choose(names[(at + step + names.length) % names.length]);
    queueMicrotask(() => /** @type {HTMLElement} */ (this.querySelector("[aria-selected=true]"))?.focus());
  }

  draw() {
    const names = Object.keys(this.#examples);
    const chosen = this.#chosen in this.#examples ? this.#chosen : names[0];
    const text = this.#examples[chosen] ?? "";
    return html`<div class="code">
      <div class="bar">
        <div class="grow row" role="tablist" aria-label="Language" @keydown=${this.#key}>
          ${names.map(
            (name) =>
              html`<button
                type="button"
                role="tab"
                aria-selected=${name === chosen}
                tabindex=${name === chosen ? 0 : -1}
                @click=${() => this.#choose(name)}
              >
                ${name}
              </button>`,
          )}
        </div>
        <button type="button" aria-label="Copy the example" @click=${() => copy(text)}>Copy</button>
      </div>
      <pre tabindex="0" aria-label="Example in ${chosen}">${text}</pre>
    </div>`;
  }
}
customElements.define("bb-examples", Examples);
