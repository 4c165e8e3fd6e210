// The form of a question that a server asks: its fields, or the page that it wants visited. All words in it are the server's.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { exact, marked, shown } from "../core/text.js";

/** @typedef {import("./question.js").Question} Question */
/** @typedef {{ const: string, title: string }} Choice */
/** @typedef {{ type: string, title?: string, description?: string, format?: string, enum?: string[], oneOf?: Choice[], anyOf?: Choice[], items?: Field, default?: any, minimum?: number, maximum?: number, minLength?: number, maxLength?: number, minItems?: number, maxItems?: number }} Field */
/** @typedef {{ wrong: Record<string, string>, readOnly: boolean, off: boolean, changed: () => void, send: (word: string, input?: Record<string, any>) => void }} Acts */

const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;
/** @type {Record<string, string>} */
const INPUTS = { email: "email", uri: "url", date: "date" };

/** @param {Question} question @returns {Record<string, Field>} */
const fieldsOf = (question) => /** @type {any} */ (question.input_schema)?.properties ?? {};

/** @param {Question} question @returns {string[]} */
const requiredOf = (question) => /** @type {any} */ (question.input_schema)?.required ?? [];

/** The choices of a field with their titles; empty where it has none. @param {Field} field @returns {Choice[]} */
const choicesOf = (field) =>
  field.oneOf ?? field.anyOf ?? (field.enum ?? []).map((one) => ({ const: one, title: one }));

/** What was filled in, by the names of the fields. */
export class Answers {
  /** @type {Map<string, any>} */
  #values = new Map();
  /** What is wrong by this page's own look at it. @type {Record<string, string>} */
  wrong = Object.create(null);

  clear() {
    this.#values.clear();
    this.wrong = Object.create(null);
  }

  /** @param {string} name @param {Field} field */
  value(name, field) {
    if (this.#values.has(name)) return this.#values.get(name);
    if (field.type === "array") return field.default ?? [];
    if (field.type === "boolean") return field.default ?? false;
    return field.default === undefined ? "" : String(field.default);
  }

  /** @param {string} name @param {any} value */
  write(name, value) {
    this.#values.set(name, value);
    delete this.wrong[name];
  }

  /** The content of the answer; null if a field is not filled in as it must be. @param {Question} question */
  content(question) {
    this.wrong = Object.create(null);
    /** @type {Record<string, any>} */
    const content = Object.create(null);
    const required = requiredOf(question);
    for (const [name, field] of Object.entries(fieldsOf(question))) {
      const value = this.value(name, field);
      if (value === "" || (field.type === "array" && !value.length && !required.includes(name))) {
        if (required.includes(name)) this.wrong[name] = "must be filled in";
      } else if (field.type === "number" || field.type === "integer") {
        const whole = field.type === "integer";
        if (NUMBER.test(value.trim()) && (!whole || Number.isSafeInteger(Number(value)))) content[name] = Number(value);
        else this.wrong[name] = whole ? "must be a whole number" : "must be a number";
      } else content[name] = value;
    }
    return Object.keys(this.wrong).length ? null : content;
  }
}

/** Whose words these are. @param {Question} question */
export const asker = (question) => question.source.replace(/^mcp:/, "");

/**
 * The question in full, with its form and what can be pressed.
 * @param {Question} question
 * @param {string} id begins the ids of the fields
 * @param {Answers} answers
 * @param {Acts} acts
 */
export function elicited(question, id, answers, acts) {
  const input = exact(question.input);
  const page = pageOf(input);
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault();
    if (acts.off) return;
    const content = answers.content(question);
    // without content the engine would fill in what the fields began with
    if (content) acts.send("approve", question.input_schema ? content : undefined);
    else acts.changed();
  };
  return html`<form class="elicited" novalidate @submit=${submit}>
    <p class="dim">
      The server <b>${shown(asker(question))}</b> asks this, in its own words. Never give it a password or a key here.
    </p>
    <blockquote class="v">${shown(input.message ?? "")}</blockquote>
    ${page ? visit(input, page) : ""}
    ${Object.entries(fieldsOf(question)).map(([name, field], n) => row(`${id}-${n}`, name, field, requiredOf(question).includes(name), answers, acts))}
    ${
      acts.readOnly
        ? ""
        : html`<div class="acts">
            <button class="btn first" type="submit" ?disabled=${acts.off}>
              ${page ? "I have been there" : "Send"}
            </button>
            <button class="btn no" type="button" ?disabled=${acts.off} @click=${() => acts.send("reject")}>
              Decline
            </button>
            <button class="btn plain" type="button" ?disabled=${acts.off} @click=${() => acts.send("cancel")}>
              Dismiss
            </button>
          </div>`
    }
  </form>`;
}

/** The page that is to be visited; null if the question names none that a browser may open. @param {Record<string, any>} input */
function pageOf(input) {
  try {
    const url = new URL(input.url);
    return url.protocol === "https:" || url.protocol === "http:" ? url : null;
  } catch {
    return null;
  }
}

/** @param {Record<string, any>} input @param {URL} page */
const visit = (input, page) =>
  html`<p class="note wait">
    It wants you to open a page of <b class="mono">${shown(page.hostname)}</b>, outside of here:
    <a class="v mono" href=${page.href} target="_blank" rel="noopener noreferrer">${shown(input.url)}</a>
  </p>`;

/** @param {string} id @param {string} name @param {Field} field @param {boolean} required @param {Answers} answers @param {Acts} acts */
function row(id, name, field, required, answers, acts) {
  const wrong = answers.wrong[name] ?? acts.wrong[name];
  /** @param {any} value */
  const write = (value) => {
    answers.write(name, value);
    acts.changed();
  };
  const title = html`${shown(field.title ?? name)}${required ? "" : html` <span class="meta">optional</span>`}`;
  const about = html`<div class=${wrong ? "hint err" : "hint"} id="${id}-hint">
    ${wrong ? shown(wrong) : [field.description ? shown(field.description) : "", bounds(field)].filter(Boolean).map((one, n) => (n ? html` · ${one}` : one))}
  </div>`;
  if (field.type === "array")
    return html`<fieldset class="field" aria-describedby="${id}-hint" ?disabled=${acts.readOnly}>
      <legend>${title}</legend>
      ${choicesOf(field.items ?? { type: "string" }).map((one, n) => box(`${id}-${n}`, one, answers.value(name, field), write, Boolean(wrong)))}
      ${about}
    </fieldset>`;
  if (field.type === "boolean")
    return html`<div class="field">
      <label class="row" for=${id}>
        <input
          id=${id}
          type="checkbox"
          ?disabled=${acts.readOnly}
          aria-describedby="${id}-hint"
          .checked=${answers.value(name, field)}
          @change=${(/** @type {Event} */ event) => write(/** @type {HTMLInputElement} */ (event.target).checked)}
        />
        ${shown(field.title ?? name)}
      </label>
      ${about}
    </div>`;
  return html`<div class="field">
    <label for=${id}>${title}</label>
    ${control(id, field, answers.value(name, field), write, Boolean(wrong), acts.readOnly)} ${about}
  </div>`;
}

/** @param {string} id @param {Choice} choice @param {string[]} chosen @param {(value: string[]) => void} write @param {boolean} wrong */
function box(id, choice, chosen, write, wrong) {
  /** @param {Event} event */
  const change = (event) => {
    const on = /** @type {HTMLInputElement} */ (event.target).checked;
    write(on ? [...chosen, choice.const] : chosen.filter((one) => one !== choice.const));
  };
  return html`<label class="row" for=${id}
    ><input
      id=${id}
      type="checkbox"
      aria-invalid=${wrong}
      .checked=${chosen.includes(choice.const)}
      @change=${change}
    />${shown(choice.title)}</label
  >`;
}

/** @param {string} id @param {Field} field @param {string} value @param {(value: string) => void} write @param {boolean} wrong @param {boolean} off */
function control(id, field, value, write, wrong, off) {
  /** @param {Event} event */
  const input = (event) => write(/** @type {HTMLInputElement} */ (event.target).value);
  const choices = choicesOf(field);
  if (choices.length)
    return html`<select id=${id} ?disabled=${off} aria-describedby="${id}-hint" aria-invalid=${wrong} @change=${input}>
      <option value="" ?selected=${value === ""}></option>
      ${choices.map((one) => html`<option value=${one.const} ?selected=${one.const === value}>${marked(one.title)}</option>`)}
    </select>`;
  const number = field.type === "number" || field.type === "integer";
  return html`<input
    id=${id}
    type=${number ? "text" : (INPUTS[field.format ?? ""] ?? "text")}
    inputmode=${number ? (field.type === "integer" ? "numeric" : "decimal") : nothing}
    maxlength=${field.maxLength ?? 10_000}
    ?disabled=${off}
    aria-describedby="${id}-hint"
    aria-invalid=${wrong}
    autocomplete="off"
    .value=${value}
    @input=${input}
  />`;
}

/** What a field takes, in short. @param {Field} field */
function bounds({ type, format, minimum, maximum, minLength, maxLength, minItems, maxItems }) {
  const [least, most] = [minimum ?? minLength ?? minItems, maximum ?? maxLength ?? maxItems];
  const unit = type === "string" ? " characters" : type === "array" ? " choices" : "";
  if (least !== undefined && most !== undefined) return `${least} to ${most}${unit}`;
  if (least !== undefined) return `at least ${least}${unit}`;
  if (most !== undefined) return `at most ${most}${unit}`;
  return format === "date-time" ? "such as 2026-07-28T12:00:00Z" : "";
}
