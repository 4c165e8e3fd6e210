// The arguments of a tool call: shown whole and exact, and edited in fields of their types.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { json, marked, oddCount, shown } from "../core/text.js";

/** @typedef {Record<string, any>} Input */
/** @typedef {{ type?: string | string[], enum?: any[], minimum?: number, maximum?: number, maxLength?: number }} Rule */
/** @typedef {{ properties?: Record<string, Rule>, required?: string[] }} Schema */
/** @typedef {"text" | "number" | "integer" | "boolean" | "choice" | "json"} Kind */

const LONG_LINES = 12;
const LONG_TEXT = 800;
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;

/** A value as text: a string as it is, all else as JSON. @param {any} value */
const textOf = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

/** How many characters of the arguments and their names hide, or turn others around. @param {Input} input */
export const hidden = (input) =>
  Object.entries(input).reduce((n, [name, value]) => n + oddCount(name) + oddCount(inner(value)), 0);

/** All texts of a value, without the escapes that JSON has. @param {any} value @returns {string} */
function inner(value) {
  if (typeof value === "string") return value;
  if (value === null || typeof value !== "object") return "";
  return Object.entries(value)
    .map(([name, one]) => name + inner(one))
    .join("");
}

/** Whether a number is longer than a browser can hold: what it shows may differ from what the tool gets. @param {any} value @returns {boolean} */
export function rounded(value) {
  if (typeof value === "number") return Number.isInteger(value) && !Number.isSafeInteger(value);
  return value !== null && typeof value === "object" && Object.values(value).some(rounded);
}

/** A value in full: spaces at its ends are dots, a long one scrolls and says how long it is. @param {string} name @param {any} value */
export function drawn(name, value) {
  const text = textOf(value);
  const body = typeof value === "string" ? ends(value) : json(value);
  const lines = text.split("\n").length;
  if (lines <= LONG_LINES && text.length <= LONG_TEXT) return html`<span class="v">${body}</span>`;
  const length = `${text.length.toLocaleString("en")} characters, ${lines.toLocaleString("en")} lines`;
  return html`<span class="v long" role="group" tabindex="0" aria-label="${name}, ${length}">${body}</span>
    <span class="meta">${length}</span>`;
}

/** @param {string} text */
function ends(text) {
  if (text === "") return html`<span class="meta">empty text</span>`;
  const before = /^ */.exec(text)?.[0].length ?? 0;
  const behind = before === text.length ? 0 : (/ *$/.exec(text)?.[0].length ?? 0);
  return [dots(before), ...shown(text.slice(before, text.length - behind)), dots(behind)];
}

/** @param {number} count */
const dots = (count) =>
  count
    ? html`<span class="odd" title="${count === 1 ? "a space" : `${count} spaces`}">${"·".repeat(count)}</span>`
    : "";

/** What a tool's schema says of an argument, whatever that is called. @param {Schema} schema @param {string} name @returns {Rule} */
const ruleOf = ({ properties = {} }, name) => (Object.hasOwn(properties, name) ? properties[name] : {});

/** Which field an argument gets, by the tool's schema, and else by its value. @param {Rule} rule @param {any} value @returns {Kind} */
function kindOf(rule, value) {
  if (rule.enum?.every((one) => typeof one === "string")) return "choice";
  const named = [rule.type ?? []].flat().filter((one) => one !== "null");
  const type = named.length === 1 ? named[0] : value === undefined ? "object" : typeof value;
  if (type === "string") return value === undefined || typeof value === "string" ? "text" : "json";
  if (type === "integer" || type === "boolean" || type === "number") return type;
  return "json";
}

/** The arguments as they are to be edited: those of the call, then those that the schema has besides. @param {Input} input @param {Schema} schema */
const names = (input, schema) => [...new Set([...Object.keys(input), ...Object.keys(schema.properties ?? {})])];

/** What a field holds at first. @param {Kind} kind @param {any} value */
function initial(kind, value) {
  if (value === undefined) return "";
  return kind === "text" || kind === "choice" ? marked(textOf(value)) : marked(JSON.stringify(value, null, 2));
}

/**
 * What was written into the fields: the arguments that differ, and what is wrong by field.
 * @param {Input} input
 * @param {Schema} schema
 * @param {Record<string, string>} texts
 * @param {(marked: string) => string} exact
 */
export function changes(input, schema, texts, exact) {
  /** @type {Input} */
  const changed = Object.create(null);
  /** @type {Record<string, string>} */
  const wrong = Object.create(null);
  for (const name of names(input, schema)) {
    const text = Object.hasOwn(texts, name) ? texts[name] : undefined;
    if (text === undefined) continue;
    const rule = ruleOf(schema, name);
    const kind = kindOf(rule, input[name]);
    if (text === initial(kind, input[name])) continue;
    if (text === "" && !(name in input) && kind !== "text") continue;
    try {
      const value = read(kind, rule, exact(text));
      if (JSON.stringify(value) !== JSON.stringify(input[name])) changed[name] = value;
    } catch (error) {
      wrong[name] = /** @type {Error} */ (error).message;
    }
  }
  return { changed, wrong };
}

/** @param {Kind} kind @param {Rule} rule @param {string} text @returns {any} */
function read(kind, rule, text) {
  if (kind === "choice") return text;
  if (kind === "boolean") return text === "true";
  if (kind === "json") return parsed(text, rule);
  if (kind === "text") {
    if (rule.maxLength !== undefined && text.length > rule.maxLength)
      throw new Error(`has at most ${rule.maxLength} characters`);
    return text;
  }
  if (!NUMBER.test(text.trim())) throw new Error(kind === "integer" ? "is a whole number" : "is a number");
  const value = Number(text);
  if (kind === "integer" && !Number.isInteger(value)) throw new Error("is a whole number");
  if (rounded(value)) throw new Error("is longer than a browser can send exactly");
  if (rule.minimum !== undefined && value < rule.minimum) throw new Error(`is ${rule.minimum} at least`);
  if (rule.maximum !== undefined && value > rule.maximum) throw new Error(`is ${rule.maximum} at most`);
  return value;
}

/** @param {string} text @param {Rule} rule */
function parsed(text, rule) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error("is not JSON");
  }
  const type = Array.isArray(value) ? "array" : value === null ? "null" : typeof value;
  const known = [rule.type ?? []].flat();
  if (known.length && !known.includes(type) && !(type === "number" && known.includes("integer")))
    throw new Error(`is ${known.join(" or ")} by the tool's schema`);
  return value;
}

/** What a field takes, in short. @param {Kind} kind @param {Rule} rule @param {boolean} sent */
function hint(kind, rule, sent) {
  const words = { text: "text", number: "number", integer: "whole number", boolean: "", choice: "", json: "JSON" }[
    kind
  ];
  const bounds = [rule.minimum, rule.maximum].some((one) => one !== undefined)
    ? `${rule.minimum ?? "…"} to ${rule.maximum ?? "…"}`
    : "";
  return [words, bounds, sent ? "" : "not sent by the agent"].filter(Boolean).join(", ");
}

/**
 * The fields of a call's arguments.
 * @param {string} id begins the ids of the fields
 * @param {Input} input
 * @param {Schema} schema
 * @param {Record<string, string>} texts what was written
 * @param {Record<string, string>} wrong
 * @param {(name: string, text: string) => void} write
 */
export function fields(id, input, schema, texts, wrong, write) {
  return names(input, schema).map((name, n) => {
    const rule = ruleOf(schema, name);
    const kind = kindOf(rule, input[name]);
    const first = initial(kind, input[name]);
    const text = Object.hasOwn(texts, name) ? texts[name] : first;
    const field = `${id}-${n}`;
    const long = kind === "json" || first.length > 60 || first.includes("\n");
    const about = { rule, text, long, sent: name in input, wrong: Boolean(wrong[name]) };
    const control = controlOf(field, kind, about, (to) => write(name, to));
    const was = name in input && text !== first;
    return html`<dt><label for=${field}>${shown(name)}</label></dt>
      <dd class=${was ? "edited" : ""}>
        ${control}
        <span id="${field}d" class=${wrong[name] ? "err" : "meta"}
          >${wrong[name] ? html`<code>$.input.${shown(name)}</code> ${shown(wrong[name])}` : hint(kind, rule, name in input)}</span
        >
        ${was ? html`<span class="meta">was <del>${drawn(name, input[name])}</del></span>` : nothing}
      </dd>`;
  });
}

/**
 * @param {string} id
 * @param {Kind} kind
 * @param {{ rule: Rule, text: string, long: boolean, sent: boolean, wrong: boolean }} about
 * @param {(text: string) => void} write
 */
function controlOf(id, kind, { rule, text, long, sent, wrong }, write) {
  /** @param {Event} event */
  const input = (event) => write(/** @type {HTMLInputElement} */ (event.target).value);
  const invalid = wrong ? "true" : "false";
  if (kind === "choice" || kind === "boolean") {
    const known = kind === "boolean" ? ["true", "false"] : (rule.enum ?? []).map(marked);
    const options = [...(sent ? [] : [""]), ...(sent && !known.includes(text) ? [text] : []), ...known];
    return html`<select id=${id} aria-describedby="${id}d" aria-invalid=${invalid} @change=${input}>
      ${options.map((one) => html`<option value=${one} ?selected=${one === text}>${one || "not sent"}</option>`)}
    </select>`;
  }
  const mode = kind === "number" ? "decimal" : kind === "integer" ? "numeric" : nothing;
  if (long)
    return html`<textarea
      id=${id}
      aria-describedby="${id}d"
      aria-invalid=${invalid}
      rows=${Math.min(LONG_LINES, text.split("\n").length + 1)}
      spellcheck="false"
      .value=${text}
      @input=${input}
    ></textarea>`;
  return html`<input
    id=${id}
    inputmode=${mode}
    aria-describedby="${id}d"
    aria-invalid=${invalid}
    autocomplete="off"
    spellcheck="false"
    .value=${text}
    @input=${input}
  />`;
}
