// <bb-approval>: one question to a person about a tool call. The arguments are what is approved: they are shown whole,
// what hides in them is named, and nothing is sent unless the question is still the one that was shown.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { ApiError, api, newKey, part } from "../core/api.js";
import { singleKeys } from "../core/preferences.js";
import { say } from "../core/say.js";
import { exact, shown } from "../core/text.js";
import { View } from "../core/view.js";
import { changes, drawn, fields, hidden, rounded } from "./arguments.js";
import { Answers, asker, elicited } from "./elicitation.js";
import { answered, edits, facts, led, outcome, reasons, refusal, warnings } from "./question.js";
import { risk, state } from "./state.js";

/** @typedef {import("./question.js").Question} Question */
/** @typedef {{ words: string, answer: string, first?: boolean, no?: boolean }} Choice */

/** No press is taken so soon after the card appears or grows: it was meant for what stood there before. */
const SETTLE = 400;
const TICK = 5000;
const READ_ONLY = html`<p class="dim">To answer takes the scope <code>approvals</code>.</p>`;
/** @type {Choice[]} */
const OUTCOMES = [
  { words: "Run again", answer: "retry" },
  { words: "It was done", answer: "mark_done" },
  { words: "It failed", answer: "fail", no: true },
];
export class Approval extends View {
  /** Whether the question is of the session that the reader is in, and may be answered by whoever may chat there. */
  inSession = false;
  /** Whether the reader may only look. */
  readOnly = false;
  /** @type {Question | null} */
  #question = null;
  /** @type {Record<string, any>} */
  #input = {};
  #open = false;
  #editing = false;
  #rejecting = false;
  #reason = "";
  #sending = false;
  #settling = false;
  #mine = false;
  #note = "";
  /** @type {Record<string, string>} */
  #texts = {};
  #answers = new Answers();
  /** @type {ApiError | null} */
  #error = null;
  /** @type {{ key: string, body: any } | null} */
  #sent = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  start() {
    this.every(TICK, () => this.update());
    this.addEventListener("keydown", (event) => this.#key(event), { signal: this.left });
    this.#settle();
  }

  get data() {
    return this.#question;
  }

  /** The question; another one under the same id is drawn anew, and what was written into it is dropped. */
  set data(question) {
    const before = this.#question;
    this.#question = question;
    this.#input = Object.assign(Object.create(null), exact(question?.input ?? {})); // a model may name one `constructor`
    if (before && question && before.id === question.id && before.args_digest !== question.args_digest) this.#changed();
    else if (before?.id !== question?.id) this.#reset();
    this.update();
  }

  get open() {
    return this.#open;
  }

  set open(open) {
    if (open === this.#open) return;
    this.#open = open;
    this.#settle();
    this.update();
  }

  /** Moves the focus to what the question is about. */
  toHeadline() {
    queueMicrotask(() => /** @type {HTMLElement | null} */ (this.querySelector(".open, .answered"))?.focus());
  }

  #reset() {
    this.#texts = {};
    this.#answers.clear();
    this.#editing = this.#rejecting = this.#mine = false;
    this.#reason = this.#note = "";
    this.#error = this.#sent = null;
    this.#settle();
  }

  #changed() {
    this.#reset();
    this.#open = true;
    this.#note = "The question has changed since you saw it. Nothing was sent; read it again.";
    this.toHeadline();
  }

  /** Takes no press for a moment. */
  #settle() {
    this.#settling = true;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#settling = false;
      this.update();
    }, SETTLE);
  }

  #toggle() {
    this.open = !this.#open;
    this.dispatchEvent(new CustomEvent("folded", { bubbles: true, detail: this.#open }));
  }

  /** @param {string} selector */
  #focus(selector) {
    queueMicrotask(() => /** @type {HTMLElement | null} */ (this.querySelector(selector))?.focus());
  }

  #edit(on = !this.#editing) {
    if (this.readOnly || this.#question?.kind !== "confirm" || rounded(this.#input)) return;
    this.#editing = on;
    this.#rejecting = false;
    this.#settle();
    this.update();
    this.#focus(on ? ".args :is(input, select, textarea)" : ".to-edit");
  }

  #reject(on = true) {
    this.#rejecting = on;
    this.#settle();
    this.update();
    this.#focus(on ? ".reason input" : ".no");
  }

  /** A letter moves the focus; Enter presses. @param {KeyboardEvent} event */
  #key(event) {
    const target = /** @type {Element} */ (event.target);
    if (event.key === "Escape" && (this.#editing || this.#rejecting)) {
      event.stopPropagation();
      if (this.#rejecting) this.#reject(false);
      else this.#edit(false);
    }
    if (!singleKeys() || !this.#open) return;
    if (target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const choice = { a: ".acts .btn", r: ".acts .no" }[event.key];
    if (event.key === "e") {
      event.preventDefault(); // the letter is not to be written into the field that gets the focus
      this.#edit();
    } else if (choice) /** @type {HTMLElement | null} */ (this.querySelector(choice))?.focus();
  }

  get #schema() {
    return /** @type {import("./arguments.js").Schema} */ (this.#question?.input_schema ?? {});
  }

  /** What was changed, and what is wrong with that, here and by the engine. */
  get #edits() {
    const found = changes(this.#input, this.#schema, this.#texts, exact);
    for (const { path, message } of this.#error?.details ?? []) {
      const name = Object.keys(this.#texts).find(
        (one) => path === `$.input.${one}` || path.startsWith(`$.input.${one}.`),
      );
      if (name) found.wrong[name] ??= message;
    }
    return found;
  }

  /** @param {string} word */
  #answer(word) {
    const { changed, wrong } = this.#edits;
    if (word === "approve" && Object.keys(wrong).length && !this.#error) {
      this.#edit(true);
      this.#focus("[aria-invalid=true]");
      return;
    }
    /** @type {any} */
    const body = { answers: [word], args_digest: this.#question?.args_digest };
    if (word === "approve" && Object.keys(changed).length) body.input = { ...this.#input, ...changed };
    if (word === "reject" && this.#reason.trim()) body.reason = this.#reason.trim();
    this.#submit(body);
  }

  /** @param {any} body */
  #submit(body) {
    const again = this.#sent && JSON.stringify(this.#sent.body) === JSON.stringify(body);
    this.#sent = again ? this.#sent : { key: newKey(), body };
    this.#send();
  }

  async #send() {
    const question = this.#question;
    if (!question || !this.#sent || this.#sending) return;
    const { key, body } = this.#sent;
    this.#sending = true;
    this.#error = null;
    this.#note = "";
    this.update();
    try {
      const headers = { "idempotency-key": key };
      const where = this.inSession ? `/sessions/${part(question.session_id)}` : `/approvals/${part(question.id)}`;
      const named = this.inSession ? { ...body, confirmation_id: question.id } : body;
      const answer = await api.post(`${where}/respond`, named, { headers });
      this.#mine = true;
      this.#end({ ...question, ...answer.confirmation });
    } catch (error) {
      await this.#refused(question, /** @type {ApiError} */ (error));
    } finally {
      this.#sending = false;
      this.update();
    }
  }

  /** Another question, another person's answer, or an error that stands in the card. @param {Question} question @param {ApiError} error */
  async #refused(question, error) {
    if (error.code === "stale_digest") {
      this.data = { ...question, ...error.body.current };
      return;
    }
    if (error.status === 409 || error.status === 410) {
      const current = await api.get(`/approvals/${part(question.id)}`).catch(() => null);
      if (current && current.status !== "pending") {
        this.#end(current);
        return;
      }
    }
    this.#error = error;
  }

  /** @param {Question} question */
  #end(question) {
    const held = this.contains(document.activeElement);
    this.data = question;
    say(`${question.tool} ${outcome(question)}`);
    if (held) this.toHeadline();
    this.dispatchEvent(new CustomEvent("answered", { bubbles: true, detail: question }));
  }

  draw() {
    const question = this.#question;
    if (!question) return nothing;
    return question.status === "pending" ? this.#asked(question) : answered(question, this.#mine);
  }

  /** @param {Question} question */
  #asked(question) {
    const id = `ask-${question.id}`;
    const unknown = question.kind === "unknown_outcome";
    return html`<article class="ask" aria-labelledby=${id}>
      <div class="top">
        <button
          class="open"
          type="button"
          aria-expanded=${this.#open}
          aria-controls="${id}-body"
          @click=${this.#toggle}
        >
          <span class="row wrap" id=${id}>
            ${state("waiting", "")}<span class="what mono">${shown(exact(question.tool))}</span>${risk(question.risk)}
            ${unknown ? html`<span class="dim">Did it happen?</span>` : ""}
            ${question.kind === "elicitation" ? html`<span class="dim">${shown(asker(question))} asks</span>` : ""}
          </span>
          <span class="meta">${facts(question)}</span>
        </button>
        ${this.#open ? "" : html`<button class="btn" type="button" tabindex="-1" aria-hidden="true" @click=${this.#toggle}>Review</button>`}
      </div>
      ${this.#open ? html`<div class="body" id="${id}-body">${this.#body(question, id)}</div>` : ""}
    </article>`;
  }

  /** @param {Question} question @param {string} id */
  #body(question, id) {
    if (question.kind === "elicitation") return this.#form(question, id);
    const odd = hidden(this.#input);
    const { changed, wrong } = this.#edits;
    return html`
      ${this.#note ? html`<p class="note wait" role="alert">${this.#note}</p>` : ""}
      ${warnings(question, odd, rounded(this.#input))} ${this.#arguments(id, changed, wrong)} ${led(question)}
      ${this.#rejecting ? "" : this.#changes(changed)} ${this.#wrong(wrong)}
      ${this.readOnly ? READ_ONLY : this.#rejecting ? this.#reasons(question.id) : this.#acts(question, odd, Object.keys(changed).length)}
    `;
  }

  /** @param {Question} question @param {string} id */
  #form(question, id) {
    const details = this.#error?.details ?? [];
    const wrong = Object.fromEntries(details.map(({ path, message }) => [path.replace("$.input.", ""), message]));
    /** @param {string} word @param {Record<string, any>} [input] */
    const send = (word, input) =>
      this.#submit({ answers: [word], args_digest: question.args_digest, ...(input ? { input } : {}) });
    const changed = () => {
      this.#error = null;
      this.update();
    };
    const off = this.#sending || this.#settling;
    return html`${this.#note ? html`<p class="note wait" role="alert">${this.#note}</p>` : ""}
    ${elicited(question, id, this.#answers, { wrong, readOnly: this.readOnly, off, changed, send })} ${led(question)}
    ${this.#wrong(wrong)} ${this.readOnly ? READ_ONLY : ""}`;
  }

  /** @param {string} id @param {Record<string, any>} changed @param {Record<string, string>} wrong */
  #arguments(id, changed, wrong) {
    /** @param {string} name @param {string} text */
    const write = (name, text) => {
      this.#texts = { ...this.#texts, [name]: text };
      this.#error = null;
      this.update();
    };
    if (this.#editing)
      return html`<dl class="args writing">${fields(id, this.#input, this.#schema, this.#texts, wrong, write)}</dl>`;
    const added = Object.keys(changed).filter((name) => !(name in this.#input));
    const all = [...Object.keys(this.#input), ...added];
    if (!all.length) return html`<p class="dim">The call has no arguments.</p>`;
    return html`<dl class="args">
      ${all.map((name) => {
        const edited = name in changed;
        const old = name in this.#input ? drawn(name, this.#input[name]) : html`<span class="meta">not sent</span>`;
        return html`<dt>${shown(name)}</dt>
          <dd class=${edited ? "edited" : ""}>
            ${edited ? html`<del>${old}</del> → <ins>${drawn(name, changed[name])}</ins>` : old}
          </dd>`;
      })}
    </dl>`;
  }

  /** @param {Record<string, any>} changed */
  #changes(changed) {
    return edits(this.#input, changed, () => {
      this.#texts = {};
      this.#error = null;
      this.update();
    });
  }

  /** @param {Record<string, string>} wrong */
  #wrong(wrong) {
    return this.#error ? refusal(this.#error, wrong, () => this.#send()) : "";
  }

  /** @param {string} id */
  #reasons(id) {
    return reasons(id, this.#reason, {
      off: this.#sending,
      write: (text) => (this.#reason = text),
      send: () => this.#answer("reject"),
      back: () => this.#reject(false),
    });
  }

  /** @param {Question} question @param {number} odd @param {number} changed */
  #acts(question, odd, changed) {
    const off = this.#sending || this.#settling;
    const unknown = question.kind === "unknown_outcome";
    const words = changed ? "Approve with changes" : odd ? "Approve as it is" : "Approve";
    /** @type {Choice[]} */
    const choices = unknown
      ? OUTCOMES
      : [
          { words, answer: "approve", first: true },
          { words: "Reject", answer: "reject", no: true },
        ];
    return html`<div class="acts ${this.#settling ? "settling" : ""}">
      ${choices.map(
        (one) =>
          html`<button
            class="btn ${one.first ? "first" : one.no ? "no" : ""}"
            type="button"
            ?disabled=${off}
            @click=${() => (one.answer === "reject" ? this.#reject() : this.#answer(one.answer))}
          >
            ${one.words}${unknown ? "" : html`<kbd aria-hidden="true">${one.no ? "R" : "A"}</kbd>`}
          </button>`,
      )}
      ${
        unknown || rounded(this.#input)
          ? ""
          : html`<button
              class="btn plain to-edit"
              type="button"
              ?disabled=${this.#sending}
              @click=${() => this.#edit()}
            >
              ${this.#editing ? "Done editing" : "Edit arguments"}<kbd aria-hidden="true">E</kbd>
            </button>`
      }
      <span
        class="meta mono"
        title="SHA-256 over the tool's source, its name and its arguments: ${question.args_digest}"
        >digest ${question.args_digest.slice(0, 12)}</span
      >
    </div>`;
  }
}
customElements.define("bb-approval", Approval);
