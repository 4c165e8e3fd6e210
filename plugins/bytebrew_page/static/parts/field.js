// Fields of forms: a label in words, the field's own name in its hint, and what is wrong under it.
import { html } from "../vendor/lit-html/lit-html.js";

let count = 0;
/** @type {Map<string, string>} */
const ids = new Map();

/** An id for a field of a form; the same for the same name. @param {string} name */
function idOf(name) {
  if (!ids.has(name)) ids.set(name, `f${++count}`);
  return /** @type {string} */ (ids.get(name));
}

/**
 * A field; `control` draws the input with the attributes that join it to its label and its hint.
 * @param {string} label
 * @param {string} path the JSON path of the field, such as `$.max_steps`
 * @param {{ hint?: unknown, error?: string }} about
 * @param {(id: string, described: string, invalid: boolean) => unknown} control
 */
export function field(label, path, { hint, error }, control) {
  const id = idOf(`${location.pathname} ${path}`);
  const words = error ? html`<div id="${id}d" class="err"><code>${path}</code> ${error}</div>` : "";
  const help = !error && hint ? html`<div id="${id}d" class="hint">${hint}</div>` : "";
  return html`<div class="field">
    <label for=${id}>${label}</label>
    ${control(id, error || hint ? `${id}d` : "", Boolean(error))}${words}${help}
  </div>`;
}

/**
 * What an API error says of each field; "" has what belongs to none.
 * @param {import("../core/api.js").ApiError | null} error
 * @param {string[]} paths the fields of the form
 */
export function faults(error, paths) {
  /** @type {Record<string, string>} */
  const found = {};
  if (!error) return found;
  for (const { path, message } of error.details) {
    const field = paths.filter((one) => path === one || path.startsWith(`${one}.`) || path.startsWith(`${one}[`));
    found[field.at(-1) ?? ""] = field.length ? message : `${path}: ${message}`;
  }
  if (!error.details.length) found[""] = error.message;
  return found;
}
