// The input for a setting, by the JSON Schema of its value, and what was typed as a value.
import { html } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";

/** @typedef {import("../../../api.ts").Setting} Setting */
/** @typedef {{ type?: string, enum?: string[], minimum?: number, maximum?: number, items?: { description?: string } }} Schema */

/** The JSON Schema of a setting's value. @param {Setting} setting @returns {Schema} */
export const schemaOf = (setting) => /** @type {any} */ (setting.schema);

/** A value as its input shows it. @param {Setting} setting @param {unknown} value @returns {string} */
export function textOf(setting, value) {
  const { type } = schemaOf(setting);
  if (type === "array") return /** @type {unknown[]} */ (value).join("\n");
  if (type) return String(value);
  return schemaOf(setting).enum ? String(value) : JSON.stringify(value, null, 2);
}

/** What was typed, as a value; SyntaxError for what is no JSON. @param {Setting} setting @param {string} text */
export function valueOf(setting, text) {
  const { type, enum: choices } = schemaOf(setting);
  if (type === "array")
    return text
      .split("\n")
      .map((line) => line.trim())
      .filter(Boolean);
  if (type === "integer" || type === "number") return text.trim() === "" ? text : Number(text);
  return type || choices ? text : JSON.parse(text);
}

/** What a value may be, in words. @param {Setting} setting */
export function bounds(setting) {
  const { type, minimum, maximum, items } = schemaOf(setting);
  if (type === "array") return `one in each line${items?.description ? `: ${items.description}` : ""}`;
  if (minimum !== undefined && maximum !== undefined) return `${minimum} to ${maximum}`;
  return type || schemaOf(setting).enum ? "" : "any JSON value";
}

/**
 * The input. @param {Setting} setting @param {string} text @param {(text: string) => void} typed
 * @param {{ id: string, described: string, invalid: boolean, busy: boolean }} how
 */
export function control(setting, text, typed, { id, described, invalid, busy }) {
  const { type, enum: choices, minimum, maximum } = schemaOf(setting);
  const input = (/** @type {any} */ event) => typed(event.target.value);
  if (choices)
    return html`<select id=${id} aria-describedby=${described} ?disabled=${busy} @change=${input}>
      ${choices.map((one) => html`<option value=${one} ?selected=${one === text}>${one}</option>`)}
    </select>`;
  if (type === "integer" || type === "number")
    return html`<input
      id=${id}
      type="number"
      min=${minimum ?? ""}
      max=${maximum ?? ""}
      aria-describedby=${described}
      aria-invalid=${invalid}
      ?disabled=${busy}
      .value=${live(text)}
      @input=${input}
    />`;
  if (type === "string")
    return html`<input
      id=${id}
      aria-describedby=${described}
      aria-invalid=${invalid}
      ?disabled=${busy}
      .value=${live(text)}
      @input=${input}
    />`;
  return html`<textarea
    id=${id}
    rows=${Math.min(8, Math.max(2, text.split("\n").length))}
    spellcheck="false"
    aria-describedby=${described}
    aria-invalid=${invalid}
    ?disabled=${busy}
    .value=${live(text)}
    @input=${input}
  ></textarea>`;
}
