// A dialog with a form: what something new is, or what becomes of something that is there.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { ApiError } from "../core/api.js";
import { dialog } from "./dialog.js";
import { faults, field } from "./field.js";

/**
 * A field of the form; `name` is that of the request's body, `options` are values with their words.
 * @typedef {{ name: string, label: string, hint?: unknown, kind?: "line" | "area" | "choice" | "box" | "boxes" | "secret" | "time",
 *   options?: [string, string][], number?: boolean }} Field
 */
/** @typedef {Record<string, any>} Values */

/**
 * Asks for values, and sends them until the engine takes them.
 * @param {string} title
 * @param {Field[]} fields
 * @param {{ values?: Values, words?: unknown, act: string, send: (values: Values) => Promise<any>,
 *   below?: (values: Values) => unknown }} how `below` stands under the fields and follows them
 * @returns {Promise<any>} what `send` gave; undefined if the dialog was closed
 */
export async function askForm(title, fields, { values = {}, words, act, send, below }) {
  const given = { ...values };
  const paths = fields.map(({ name }) => `$.${name}`);
  /** @type {Error | null} */
  let error = null;
  let busy = false;
  /** @type {any} */
  let sent;
  await dialog(title, (close, update) => {
    const wrong = faults(error instanceof ApiError ? error : null, paths);
    const whole = wrong[""] ?? (error instanceof ApiError ? "" : error?.message);
    /** @param {SubmitEvent} event */
    const submit = async (event) => {
      event.preventDefault();
      const form = /** @type {HTMLFormElement} */ (event.target);
      busy = true;
      error = null;
      update();
      try {
        sent = (await send(given)) ?? null;
        return close();
      } catch (caught) {
        error = /** @type {Error} */ (caught);
      }
      busy = false;
      update();
      /** @type {HTMLElement | null} */ (form.querySelector("[aria-invalid=true], [role=alert]"))?.focus();
    };
    /** @param {string} name @param {any} value */
    const set = (name, value) => {
      given[name] = value;
      update();
    };
    return html`<form class="stack" novalidate @submit=${submit}>
      <h2>${title}</h2>
      ${words ? html`<p class="dim">${words}</p>` : nothing}
      ${whole ? html`<div class="note fail" role="alert" tabindex="-1">${whole}</div>` : nothing}
      ${fields.map((one, n) => drawn(one, given[one.name], wrong[`$.${one.name}`], n === 0, set))}
      ${below?.(given) ?? nothing}
      <div class="row">
        <button class="btn first" ?disabled=${busy}>${act}</button>
        <button class="btn plain" type="button" @click=${() => close()}>Cancel</button>
      </div>
    </form>`;
  });
  return sent;
}

/** The values of a form that differ from what was there. @param {Values} values @param {Values} before */
export const changed = (values, before) =>
  Object.fromEntries(
    Object.entries(values).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name])),
  );

/** @param {Field} one @param {any} value @param {string | undefined} error @param {boolean} first @param {(name: string, value: any) => void} set */
function drawn(one, value, error, first, set) {
  if (one.kind === "box") {
    /** @param {Event} event */
    const toggle = (event) => set(one.name, /** @type {HTMLInputElement} */ (event.target).checked);
    return html`<label class="row"
      ><input type="checkbox" .checked=${Boolean(value)} ?autofocus=${first} @change=${toggle} />
      <span>${one.label} <span class="meta">${one.hint}</span></span></label
    >`;
  }
  if (one.kind === "boxes") return boxes(one, value ?? [], error, set);
  return field(one.label, `$.${one.name}`, { hint: one.hint, error }, (id, described, invalid) =>
    control(one, value, { id, described, invalid, first }, set),
  );
}

/** @param {Field} one @param {any} value @param {{ id: string, described: string, invalid: boolean, first: boolean }} about @param {(name: string, value: any) => void} set */
function control(one, value, { id, described, invalid, first }, set) {
  /** @param {Event} event */
  const change = (event) => {
    const { value: text } = /** @type {HTMLInputElement} */ (event.target);
    set(one.name, one.number ? Number(text) : text);
  };
  if (one.kind === "choice") {
    return html`<select
      id=${id}
      ?autofocus=${first}
      aria-describedby=${described}
      aria-invalid=${invalid}
      @change=${change}
    >
      ${(one.options ?? []).map(
        ([key, words]) => html`<option value=${key} ?selected=${key === String(value ?? "")}>${words}</option>`,
      )}
    </select>`;
  }
  if (one.kind === "area") {
    return html`<textarea
      id=${id}
      rows="4"
      ?autofocus=${first}
      aria-describedby=${described}
      aria-invalid=${invalid}
      .value=${value ?? ""}
      @input=${change}
    ></textarea>`;
  }
  return html`<input
    id=${id}
    type=${one.kind === "secret" ? "password" : "text"}
    autocomplete="off"
    spellcheck="false"
    ?autofocus=${first}
    aria-describedby=${described}
    aria-invalid=${invalid}
    .value=${value ?? ""}
    @input=${change}
  />`;
}

/** @param {Field} one @param {string[]} chosen @param {string | undefined} error @param {(name: string, value: any) => void} set */
function boxes(one, chosen, error, set) {
  /** @param {string} key @param {Event} event */
  const toggle = (key, event) => {
    const others = chosen.filter((name) => name !== key);
    set(one.name, /** @type {HTMLInputElement} */ (event.target).checked ? [...others, key] : others);
  };
  return html`<fieldset class="bare">
    <legend>${one.label}</legend>
    ${(one.options ?? []).map(
      ([key, words]) =>
        html`<label class="row"
          ><input
            type="checkbox"
            .checked=${chosen.includes(key)}
            @change=${(/** @type {Event} */ event) => toggle(key, event)}
          />${words}</label
        >`,
    )}
    ${error ? html`<p class="err"><code>$.${one.name}</code> ${error}</p>` : html`<p class="meta">${one.hint}</p>`}
  </fieldset>`;
}
