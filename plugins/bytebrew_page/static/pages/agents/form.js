// The draft of an agent: what an editor has changed on top of a version, which no other page and no reload of the
// version takes away.
import { html } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { faults, field } from "../../parts/field.js";

/** An agent as a version has it, by field. @typedef {Record<string, any>} Content */

/** The words for the fields of an agent; others have their own name. @type {Record<string, string>} */
const WORDS = {
  description: "description",
  system: "prompt",
  model: "model",
  tools: "tools",
  confirm_before: "ask first",
  can_spawn: "may ask",
  mcp_servers: "MCP servers",
  capabilities: "knowledge and memory",
};

/** @param {string} name */
export const wordsOf = (name) => WORDS[name] ?? name;

/** Lists whose order means nothing. */
const SETS = new Set(["tools", "confirm_before", "can_spawn", "mcp_servers"]);

/** Drafts by agent, for as long as the tab is open. @type {Map<string, Content>} */
const drafts = new Map();

/** @param {string} name @param {any} value */
const plain = (name, value) => JSON.stringify(SETS.has(name) && value ? [...value].sort() : (value ?? null));

/** The fields in which two versions of an agent differ. @param {Content} one @param {Content} other */
export const differing = (one, other) =>
  [...new Set([...Object.keys(one), ...Object.keys(other)])].filter(
    (name) => plain(name, one[name]) !== plain(name, other[name]),
  );

/** The form of an agent: a value of each field, what has changed, and what is wrong with it. */
export class Form {
  /** @type {import("../../core/api.js").ApiError | null} */
  error = null;
  /** Faults that are known before the engine has seen the field. @type {Record<string, string>} */
  own = {};
  /** @type {Record<string, string>} */
  #typed = {};

  /** @param {string} name @param {Content} base @param {boolean} writable @param {() => void} update */
  constructor(name, base, writable, update) {
    this.name = name;
    this.base = base;
    this.writable = writable;
    this.update = update;
  }

  get draft() {
    return drafts.get(this.name) ?? {};
  }

  /** What stands in a field: as it was typed, until it is saved. @param {string} field */
  typed(field) {
    return this.#typed[field] ?? String(this.value(field) ?? "");
  }

  /** @param {string} field @param {string} written @param {any} value what it means */
  type(field, written, value) {
    this.#typed[field] = written;
    this.set(field, value);
  }

  /** @param {string} field @returns {any} */
  value(field) {
    return field in this.draft ? this.draft[field] : this.base[field];
  }

  /** @param {string} field @param {any} value */
  set(field, value) {
    const draft = { ...this.draft, [field]: value };
    if (plain(field, value) === plain(field, this.base[field])) delete draft[field];
    if (Object.keys(draft).length) drafts.set(this.name, draft);
    else drafts.delete(this.name);
    delete this.own[field];
    if (this.error?.details.some((one) => one.path.startsWith(`$.${field}`))) this.error = null;
    this.update();
  }

  /** Adds a name to a list, or takes it out. @param {string} field @param {string} name @param {boolean} on */
  toggle(field, name, on) {
    const others = this.value(field).filter((/** @type {string} */ one) => one !== name);
    this.set(field, on ? [...others, name] : others);
  }

  discard() {
    drafts.delete(this.name);
    this.error = null;
    this.own = {};
    this.#typed = {};
    this.update();
  }

  /** The fields that differ from the version. */
  get changed() {
    return Object.keys(this.draft);
  }

  /** The agent as it would be saved. @returns {Content} */
  get content() {
    return { ...this.base, ...this.draft };
  }

  /** What is wrong, by field; "" has what belongs to none. @returns {Record<string, string>} */
  get faults() {
    const found = faults(
      this.error,
      Object.keys(this.base).map((name) => `$.${name}`),
    );
    const named = Object.entries(found).map(([path, words]) => [path.replace("$.", ""), words]);
    return { ...Object.fromEntries(named), ...this.own };
  }
}

/**
 * A field of the form; `control` draws the input with what joins it to label and hint.
 * @param {Form} form
 * @param {string} name
 * @param {string} label
 * @param {unknown} hint
 * @param {(id: string, described: string, invalid: boolean) => unknown} control
 */
const row = (form, name, label, hint, control) =>
  field(label, `$.${name}`, { hint, error: form.faults[name] }, control);

/** A line of text. @param {Form} form @param {string} name @param {string} label @param {unknown} hint */
export const text = (form, name, label, hint) =>
  row(
    form,
    name,
    label,
    hint,
    (id, described, invalid) =>
      html`<input
        id=${id}
        aria-describedby=${described}
        aria-invalid=${invalid}
        .value=${live(form.value(name) ?? "")}
        @input=${(/** @type {InputEvent} */ event) => form.set(name, valueOf(event))}
      />`,
  );

/**
 * A number; an empty one is null where the engine has a default of its own for that, which is the `placeholder`.
 * @param {Form} form @param {string} name @param {string} label @param {unknown} hint @param {string} [placeholder]
 */
export const number = (form, name, label, hint, placeholder = "") =>
  row(
    form,
    name,
    label,
    hint,
    (id, described, invalid) =>
      html`<input
        id=${id}
        inputmode="decimal"
        autocomplete="off"
        aria-describedby=${described}
        aria-invalid=${invalid}
        placeholder=${placeholder}
        .value=${live(form.typed(name))}
        @input=${(/** @type {InputEvent} */ event) => form.type(name, valueOf(event), numberOf(valueOf(event)))}
      />`,
  );

/** @param {string} written @returns {number | string | null} what is no number is sent as it is, for the engine to say so */
function numberOf(written) {
  const trimmed = written.trim();
  if (!trimmed) return null;
  return Number.isFinite(Number(trimmed)) ? Number(trimmed) : trimmed;
}

/**
 * A choice of values with their words; a value that is none of them is kept.
 * @param {Form} form @param {string} name @param {string} label @param {unknown} hint @param {[string, string][]} options
 */
export function choice(form, name, label, hint, options) {
  const value = form.value(name) ?? "";
  const known = options.some(([one]) => one === value);
  return row(
    form,
    name,
    label,
    hint,
    (id, described, invalid) =>
      html`<select
        id=${id}
        aria-describedby=${described}
        aria-invalid=${invalid}
        @change=${(/** @type {InputEvent} */ event) => form.set(name, valueOf(event) || null)}
      >
        ${known ? "" : html`<option value=${value} selected>${value} (not there yet)</option>`}
        ${options.map(([one, words]) => html`<option value=${one} ?selected=${one === value}>${words}</option>`)}
      </select>`,
  );
}

/**
 * Lines of text, or anything that `read` makes of them; it throws words about what it cannot read.
 * @param {Form} form @param {string} name @param {string} label @param {unknown} hint
 * @param {{ rows: number, show: (value: any) => string, read: (text: string) => any }} how
 */
export const area = (form, name, label, hint, { rows, show, read }) =>
  row(
    form,
    name,
    label,
    hint,
    (id, described, invalid) =>
      html`<textarea
        id=${id}
        rows=${rows}
        spellcheck="false"
        aria-describedby=${described}
        aria-invalid=${invalid}
        .value=${show(form.value(name))}
        @change=${(/** @type {InputEvent} */ event) => {
          try {
            form.set(name, read(valueOf(event)));
          } catch (error) {
            form.own[name] = /** @type {Error} */ (error).message;
            form.update();
          }
        }}
      ></textarea>`,
  );

/** @param {Event} event */
export const valueOf = (event) =>
  /** @type {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} */ (event.target).value;

/** @param {Event} event */
export const isOn = (event) => /** @type {HTMLInputElement} */ (event.target).checked;
