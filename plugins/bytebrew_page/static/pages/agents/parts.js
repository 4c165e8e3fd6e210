// The parts of an agent's form: each a heading, a sentence and its fields.
import { html } from "../../vendor/lit-html/lit-html.js";
import { repeat } from "../../vendor/lit-html/directives/repeat.js";
import { int } from "../../core/format.js";
import { to } from "../../core/router.js";
import { shown } from "../../core/text.js";
import { state } from "../../parts/state.js";
import { area, choice, isOn, number, text, valueOf } from "./form.js";

/** @typedef {import("./form.js").Form} Form */
/** @typedef {import("../../../api.ts").Model} Model */

/** A part of the form. @param {string} title @param {unknown} words @param {unknown} body @param {unknown} [acts] */
export const part = (title, words, body, acts) =>
  html`<section class="part" aria-label=${title}>
    <header>
      <div class="grow">
        <h2>${title}</h2>
        ${words ? html`<p>${words}</p>` : ""}
      </div>
      ${acts ?? ""}
    </header>
    ${body}
  </section>`;

/** The engine's own estimate: four characters to a token. @param {string} written */
const tokens = (written) => Math.ceil(written.length / 4);

/** @param {Form} form */
export function prompt(form) {
  const written = form.value("system");
  return html`${text(form, "description", "Description", "description: what it is for, for people and for agents that may ask it")}
    <div class="field">
      <label for="prompt">Prompt</label>
      <textarea
        id="prompt"
        class="prompt"
        rows="10"
        spellcheck="false"
        aria-describedby="prompt-size"
        aria-invalid=${Boolean(form.faults.system)}
        .value=${written}
        @input=${(/** @type {InputEvent} */ event) => form.set("system", valueOf(event))}
      ></textarea>
      ${form.faults.system ? html`<div class="err"><code>$.system</code> ${form.faults.system}</div>` : ""}
      <p class="meta" id="prompt-size">
        system · ${int(written.length)} characters · about ${int(tokens(written))} tokens
      </p>
    </div>`;
}

/** @param {Form} form @param {Model[] | undefined} models */
export function limits(form, models) {
  const usual = models?.find((one) => one.is_default)?.name;
  const chats = (models ?? []).filter((one) => one.kind === "chat");
  const own = chats.find((one) => one.name === (form.value("model") ?? usual));
  /** @type {[string, string][]} */
  const names = [["", usual ? `the default (${usual})` : "the default"], ...pairs(namesOf(form, "model", models))];
  const falls = own?.fallback.length ? `model; falls back to ${own.fallback.join(", ")}` : "model";
  return html`<div class="grid2">
    ${choice(form, "model", "Model", falls, names)}
    ${number(form, "max_steps", "Steps at most", "max_steps, 1 to 500: model calls in one turn")}
    ${number(form, "temperature", "Temperature", "temperature, 0 to 2", "the vendor's own")}
    ${number(form, "max_tokens", "Answer at most", "max_tokens: tokens of one answer", "the model's own limit")}
  </div>`;
}

/** The models that chat; what is chosen alone, where the token may not read them. @param {Form} form @param {string} field @param {Model[] | undefined} models */
const namesOf = (form, field, models) =>
  models ? models.filter((one) => one.kind === "chat").map((one) => one.name) : [form.value(field) ?? []].flat();

/** @param {string[]} names @returns {[string, string][]} */
const pairs = (names) => names.map((name) => [name, name]);

/** @param {Form} form @param {Model[] | undefined} models */
export function advanced(form, models) {
  const chats = namesOf(form, "summary_model", models);
  return html`<details class="advanced">
    <summary>${advancedWords(form)}</summary>
    <div class="grid2">
      ${number(form, "max_context_size", "Context at most", "max_context_size, 1,000 to 200,000 tokens")}
      ${number(form, "max_turn_duration", "Turn at most", "max_turn_duration, 1 to 86,400 seconds")}
      ${number(form, "top_p", "Top p", "top_p, 0 to 1", "the vendor's own")}
      ${choice(form, "lifecycle", "Conversation", "lifecycle: what it keeps between messages", [
        ["persistent", "persistent: the whole session"],
        ["spawn", "spawn: each message anew"],
      ])}
      ${choice(form, "tool_execution", "Several calls", "tool_execution: calls of one step", [
        ["sequential", "sequential: one after another"],
        ["parallel", "parallel: at the same time"],
      ])}
      ${number(form, "summary_keep", "Turns kept whole", "summary_keep, 0 to 1,000 newest turns that no summary replaces")}
      ${choice(form, "summary_model", "Summaries by", "summary_model", [["", "its own model"], ...pairs(chats)])}
    </div>
    ${area(form, "stop_sequences", "Stop sequences", "stop_sequences: up to 16, one on a line", {
      rows: 2,
      show: (value) => (value ?? []).join("\n"),
      read: (written) => written.split("\n").filter(Boolean),
    })}
    ${area(form, "response_format", "Form of the answer", "response_format: a JSON object, or nothing for text", {
      rows: 4,
      show: (value) => (value ? JSON.stringify(value, null, 2) : ""),
      read: readJson,
    })}
  </details>`;
}

/** @param {Form} form */
const advancedWords = (form) =>
  `Context ${int(form.value("max_context_size"))} tokens, turns of ${int(form.value("max_turn_duration"))} s at most, and more`;

/** @param {string} written */
function readJson(written) {
  if (!written.trim()) return null;
  try {
    return JSON.parse(written);
  } catch {
    throw new Error("is not JSON");
  }
}

/**
 * A list of names to choose from: what is there, then what is named and not there.
 * @param {Form} form @param {string} name the field
 * @param {{ name: string, words: unknown }[]} known
 * @param {{ none: unknown, page: (name: string) => string, gate?: (name: string) => string }} how `gate` is the tool that asks
 */
export function names(form, name, known, { none, page, gate }) {
  const chosen = /** @type {string[]} */ (form.value(name));
  const absent = chosen.filter((one) => known.every((other) => other.name !== one));
  if (!known.length && !absent.length) return html`<p class="meta">${none}</p>`;
  const rows = [...known, ...absent.map((one) => ({ name: one, words: state("alert", "not there yet") }))];
  return html`<ul class="pick">
    ${repeat(
      rows,
      (one) => one.name,
      (one) =>
        html`<li class="row wrap">
          <label class="row">
            <input
              type="checkbox"
              .checked=${chosen.includes(one.name)}
              @change=${(/** @type {Event} */ event) => form.toggle(name, one.name, isOn(event))}
            />
            <b>${shown(one.name)}</b>
          </label>
          <span class="meta grow clip">${one.words}</span>
          ${gate && chosen.includes(one.name) ? askFirst(form, gate(one.name)) : ""}
          ${absent.includes(one.name) ? "" : html`<a class="meta" href=${page(one.name)}>Open</a>`}
        </li>`,
    )}
  </ul>`;
}

/** The box that puts calls of a tool before a person. @param {Form} form @param {string} tool */
export const askFirst = (form, tool) =>
  html`<label class="row">
    <input
      type="checkbox"
      aria-label="Ask first before ${tool}"
      .checked=${form.value("confirm_before").includes(tool)}
      @change=${(/** @type {Event} */ event) => form.toggle("confirm_before", tool, isOn(event))}
    />
    <span class="dim">${form.value("confirm_before").includes(tool) ? "asks first" : "runs at once"}</span>
  </label>`;

/** @param {string} name */
export const agentPage = (name) => to`/agents/${name}`;
