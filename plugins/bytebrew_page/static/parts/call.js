// A tool call: its name, its first argument and how long it took; its input and its output when it is opened.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { bytes, ms } from "../core/format.js";
import { json, shown } from "../core/text.js";
import { View } from "../core/view.js";
import { code } from "./code.js";
import { risk, state } from "./state.js";

/**
 * A call to be drawn: times are in milliseconds, 0 where they are not known; `output` is null while it runs.
 * @typedef {{ tool: string, input: Record<string, any>, output: string | null, failed: boolean, begun: number, ended: number, client?: boolean }} Call
 */

const MOST = 4096;
const MOST_READ = 100_000;

/** A long text, of which the beginning is shown until somebody wants it all: `<bb-long .text=${text}>`. */
class Long extends View {
  #text = "";
  #all = false;

  /** @param {string} text */
  set text(text) {
    if (text !== this.#text) this.update();
    this.#text = text;
  }

  /** Other text than hidden characters, such as that of people. @type {(text: string) => unknown} */
  form = shown;

  draw() {
    if (this.#all || this.#text.length <= MOST) return this.form(this.#text);
    return html`${this.form(this.#text.slice(0, MOST))}<span class="cut"
        >…
        <button class="btn" type="button" @click=${() => ((this.#all = true), this.update())}>
          Show all ${bytes(this.#text.length)}
        </button></span
      >`;
  }
}
customElements.define("bb-long", Long);

/** The output of a tool, indented where it is JSON. @param {string} text */
function pretty(text) {
  if (text.length > MOST_READ || !/^\s*[[{]/.test(text)) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** The first argument of a call, in one line. @param {Record<string, any>} input */
function first(input) {
  const [entry] = Object.entries(input);
  if (!entry) return "";
  const value = typeof entry[1] === "string" ? entry[1] : JSON.stringify(entry[1]);
  return `${entry[0]}: ${value}`.slice(0, 200);
}

/**
 * A card of a tool call; `inner` draws what a spawned agent does in it, `version` changes with anything of it.
 * `<bb-call .call=${call} .version=${n} .zone=${"safe"} .inner=${() => html`...`}>`
 */
class CallCard extends View {
  /** @type {Call | null} */
  call = null;
  /** @type {(() => unknown) | null} */
  inner = null;
  zone = "safe";
  #version = -1;
  #open = false;
  #waits = false;

  /** @param {number} version */
  set version(version) {
    if (version !== this.#version) this.update();
    this.#version = version;
  }

  /** Whether somebody must answer within it, for which it opens. @param {boolean} waits */
  set waits(waits) {
    if (waits !== this.#waits) this.update();
    this.#waits = waits;
    this.#open ||= waits;
  }

  start() {
    this.every(1000, () => this.call?.output === null && this.update());
  }

  #duration() {
    const { begun, ended } = /** @type {Call} */ (this.call);
    if (!begun) return "";
    return ended ? ms(ended - begun) : ms(Math.floor((Date.now() - begun) / 1000) * 1000).replace(".00", "");
  }

  /** @param {Event} event */
  #toggle(event) {
    const target = /** @type {HTMLDetailsElement} */ (event.target);
    if (target !== this.firstElementChild) return;
    this.#open = target.open;
    this.update();
  }

  draw() {
    const call = this.call;
    if (!call) return nothing;
    const running = call.output === null && !call.ended;
    const [kind, word] = this.#waits
      ? ["waiting", "needs an answer"]
      : running
        ? ["running", "running"]
        : call.failed
          ? ["failed", "failed"]
          : ["ok", "done"];
    const name = call.tool.replace(/^spawn_/, "");
    const sub = this.inner && call.tool.startsWith("spawn_");
    return html`<details class="call ${sub ? "sub" : ""}" ?open=${this.#open} @toggle=${this.#toggle}>
      <summary>
        ${call.client ? state("waiting", "waits for its client") : state(kind, html`<span class="sr">${word}</span>`)}
        <b>${shown(name)}</b>
        ${sub ? html`<span class="tag">agent</span>` : nothing}
        <span class="arg clip">${shown(first(call.input))}</span>
        ${this.zone !== "safe" ? risk(this.zone) : nothing}
        <span class="t">${this.#duration()}</span>
      </summary>
      ${this.#open ? this.#body(call) : nothing}
    </details>`;
  }

  /** @param {Call} call */
  #body(call) {
    const input = JSON.stringify(call.input, null, 2);
    return html`<div class="in">
      ${code("Input", input.length > MOST ? html`<bb-long .text=${input}></bb-long>` : json(call.input), input)}
      ${this.inner?.() ?? nothing} ${this.#output(call)}
    </div>`;
  }

  /** @param {Call} call */
  #output({ output, failed, ended }) {
    if (output === null && this.inner && !ended) return nothing;
    if (output === null) {
      return html`<p class="meta">${ended ? "It has no result: the turn ended before." : "No result yet."}</p>`;
    }
    const text = pretty(output);
    const block = code(
      failed ? "What went wrong" : "Output",
      text === "" ? html`<span class="meta">empty</span>` : html`<bb-long .text=${text}></bb-long>`,
      output,
    );
    return failed ? html`<div class="note fail bare">${block}</div>` : block;
  }
}
customElements.define("bb-call", CallCard);
