// <bb-inspector>: what is known of a part of a turn, with what went in and what came out.
import { html } from "../../vendor/lit-html/lit-html.js";
import { api, part } from "../../core/api.js";
import { bytes, int, ms, usd } from "../../core/format.js";
import { Resource } from "../../core/resource.js";
import { go, to } from "../../core/router.js";
import { json, shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { code } from "../../parts/code.js";
import { risk } from "../../parts/state.js";
import { copy } from "../../parts/toast.js";

/** @typedef {import("../../../api.ts").SpanDetail} SpanDetail */
/** @typedef {import("../../../api.ts").TurnRow} TurnRow */
/** @typedef {import("./spans.js").Bar} Bar */
/** @typedef {{ session: string, turn: TurnRow, bar: Bar | undefined, before: TurnRow | null, message: string }} Data */

const MOST = 4096;

class Inspector extends View {
  /** @type {Data | null} */
  #data = null;
  #known = "";
  /** @type {Resource<SpanDetail> | null} */
  #detail = null;
  #whole = false;
  /** @type {Error | null} */
  #wrong = null;

  /** @param {Data} data */
  set data(data) {
    this.#data = data;
    const { session, turn, bar } = data;
    const known = `${turn.turn_id} ${bar?.id} ${bar?.state}`;
    if (known !== this.#known) {
      this.#known = known;
      this.#whole = false;
      this.#wrong = null;
      const id = bar?.span ? bar.id : "";
      const path = `/sessions/${part(session)}/turns/${part(turn.turn_id)}/spans/${part(id)}`;
      this.#detail = id ? new Resource(this, (signal) => api.get(path, {}, signal)) : null;
      if (this.isConnected) this.#detail?.reload();
    }
    this.update();
  }

  start() {
    this.#detail?.reload();
  }

  draw() {
    const { turn, bar, session } = this.#data ?? {};
    if (!bar || !turn || !session) return "";
    const kind = bar.state === "failed" && bar.kind !== "turn" ? "failed" : bar.kind;
    return html`
      <div class="row wrap">
        <span class="kind ${kind}"></span>
        <h2 class="grow">${shown(bar.name)}</h2>
        ${bar.span?.risk ? risk(bar.span.risk) : ""}
      </div>
      <dl class="facts">
        ${facts(bar, turn).map(
          ([name, value]) =>
            html`<dt>${name}</dt>
              <dd>${value}</dd>`,
        )}
      </dl>
      ${bar.span ? "" : this.#text("Message", this.#data?.message ?? turn.message)}
      ${this.#detail?.shown((detail) => this.#content(detail)) ?? ""}
      ${this.#wrong ? html`<p class="note fail" role="alert">${this.#wrong.message}</p>` : ""}
      <div class="row wrap">
        ${bar.span ? html`<a class="btn" href=${eventsAt(session, turn, bar)}>Its events</a>` : ""}
        ${
          this.#detail?.value?.messages_before
            ? html`<a
                class="btn"
                href="${to`/sessions/${session}`}?turn=${turn.number}&view=messages&through=${this.#detail.value.messages_before}"
                >Messages sent</a
              >`
            : ""
        }
        ${
          bar.kind === "agent" && bar.span
            ? html`<a class="btn" href=${to`/sessions/${bar.span.session_id}`}>Its session</a>`
            : ""
        }
        <button class="btn plain" type="button" @click=${() => copy(location.href, "Link copied")}>Copy link</button>
        ${
          this.#data?.before
            ? html`<button class="btn plain" type="button" @click=${() => this.#fork()}>Fork before this turn</button>`
            : ""
        }
      </div>
    `;
  }

  /** @param {SpanDetail} detail */
  #content(detail) {
    const input = /** @type {any} */ (detail.input);
    const edited = /** @type {any} */ (detail.edited);
    const calls = detail.tool_calls ?? [];
    return html`
      ${detail.reason ? html`<p class="dim">“${shown(detail.reason)}”</p>` : ""}
      ${edited ? changes(input ?? {}, edited) : input ? block("Input", input) : ""}
      ${
        detail.thinking
          ? html`<details>
              <summary>Thinking</summary>
              ${this.#text("Thinking", detail.thinking)}
            </details>`
          : ""
      }
      ${detail.output ? this.#text("Output", detail.output) : ""}
      ${calls.map((call) => block(`Calls ${call.tool}`, call.input))}
    `;
  }

  /** @param {string} title @param {string} text */
  #text(title, text) {
    const long = text.length > MOST && !this.#whole;
    const part = long ? text.slice(0, MOST) : text;
    return html`${code(title, long ? shown(part) : (parsed(text) ?? shown(text)), text)}
    ${
      long
        ? html`<button class="btn plain" type="button" @click=${() => ((this.#whole = true), this.update())}>
            Show all ${bytes(text.length)}
          </button>`
        : ""
    }`;
  }

  async #fork() {
    const { session, before } = /** @type {Data} */ (this.#data);
    try {
      const made = await api.post(`/sessions/${part(session)}/fork`, { after: before?.last_event });
      go(to`/chat/${made.id}`);
    } catch (error) {
      this.#wrong = /** @type {Error} */ (error);
      this.update();
    }
  }
}
customElements.define("bb-inspector", Inspector);

/** The details at the foot of a phone. @param {string} name @param {Data} data @param {AbortSignal} left */
export function sheet(name, data, left) {
  const inspector = Object.assign(new Inspector(), { data });
  const box = document.createElement("dialog");
  box.className = "sheet inspect";
  box.setAttribute("aria-label", name);
  const close = document.createElement("button");
  Object.assign(close, { className: "btn", type: "button", textContent: "Close" });
  close.addEventListener("click", () => box.close());
  box.append(inspector, close);
  box.addEventListener("close", () => box.remove());
  left.addEventListener("abort", () => box.remove(), { once: true });
  document.body.append(box);
  box.showModal();
}

/** @param {string} title @param {unknown} value */
const block = (title, value) => code(title, json(value), JSON.stringify(value, null, 2));

/** JSON as such, if it is any. @param {string} text */
function parsed(text) {
  if (!/^[[{]/.test(text)) return null;
  try {
    return json(JSON.parse(text));
  } catch {
    return null;
  }
}

/** The arguments as a person changed them. @param {Record<string, unknown>} old @param {Record<string, unknown>} now */
function changes(old, now) {
  const names = [...new Set([...Object.keys(old), ...Object.keys(now)])];
  const text = (/** @type {unknown} */ value) =>
    value === undefined ? "" : shown(typeof value === "string" ? value : JSON.stringify(value));
  return html`<dl class="args">
    ${names.map((name) => {
      const same = JSON.stringify(old[name]) === JSON.stringify(now[name]);
      return html`<dt>${shown(name)}</dt>
        ${
          same
            ? html`<dd>${text(now[name])}</dd>`
            : html`<dd class="edited"><del>${text(old[name])}</del> → <ins>${text(now[name])}</ins></dd>`
        }`;
    })}
  </dl>`;
}

/** @param {Bar} bar @param {TurnRow} turn @returns {[string, unknown][]} */
function facts(bar, turn) {
  const { span } = bar;
  const took = bar.end - bar.start;
  /** @type {[string, unknown][]} */
  const found = [
    ["Began", `+${ms(bar.start)}`],
    [span && !span.ended_at ? "So far" : "Took", ms(took)],
  ];
  if (bar.first !== null) found.push(["First token after", ms(bar.first)]);
  if (!span) {
    const { usage } = turn;
    found.push(["Tokens in", int(usage.input_tokens)], ["Tokens out", int(usage.output_tokens)]);
    found.push(["Cost", usd(usage.cost_usd)], ["Turn", turn.turn_id]);
    return found;
  }
  if (span.kind === "model" && span.model) {
    found.push(["Model", span.model]);
    if (span.model_name && span.model_name !== span.model)
      found.push(["At its vendor", `${span.model_name}, ${span.provider}`]);
    found.push([
      "Tokens in",
      `${int(span.input_tokens)}${span.cached_tokens ? `, ${int(span.cached_tokens)} cached` : ""}`,
    ]);
    const seconds = (took - (bar.first ?? 0)) / 1000;
    const rate =
      seconds > 0.05 && span.output_tokens ? ` (${Math.round((span.output_tokens ?? 0) / seconds)} a second)` : "";
    found.push(["Tokens out", `${int(span.output_tokens)}${rate}`]);
    if (span.thinking_tokens) found.push(["Of these thinking", int(span.thinking_tokens)]);
    found.push(["Cost", span.cost_usd === null ? "no price known" : usd(span.cost_usd)]);
    if (span.stop) found.push(["Ended with", span.stop]);
  }
  if (span.agent && bar.kind !== "agent")
    found.push(["Agent", span.version ? `${span.agent} v${span.version}` : span.agent]);
  if (bar.kind === "person") {
    if (span.verdict) found.push(["Answer", span.verdict]);
    if (span.answered_by) found.push(["Answered by", shown(span.answered_by)]);
  }
  if (span.call_id) found.push(["Call", html`<code>${shown(span.call_id)}</code>`]);
  return found;
}

/** @param {string} session @param {TurnRow} turn @param {Bar} bar */
const eventsAt = (session, turn, bar) =>
  `${to`/sessions/${session}`}?turn=${turn.number}&view=events&at=${encodeURIComponent(bar.span?.started_at ?? "")}`;
