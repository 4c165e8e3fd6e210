// A turn as it is drawn: what was said, and what came of it.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { guard } from "../../vendor/lit-html/directives/guard.js";
import { to } from "../../core/router.js";
import { ms } from "../../core/format.js";
import { talk } from "../../core/text.js";
import { markdown } from "../../parts/markdown.js";
import { state } from "../../parts/state.js";
import { copy } from "../../parts/toast.js";
import { connect } from "../../parts/connect.js";
import { calls } from "./fold.js";
import { output } from "./output.js";

/** @typedef {import("./fold.js").Turn} Turn */
/** @typedef {import("./fold.js").Block} Block */
/** @typedef {import("./fold.js").CallBlock} CallBlock */

/**
 * What a turn is drawn with.
 * @typedef {object} Around
 * @property {string} session
 * @property {Record<string, string>} risks of tools, by name
 * @property {boolean} busy whether a turn runs
 * @property {boolean} writes whether the token may send messages
 * @property {import("./output.js").Reply} reply
 * @property {(turn: Turn) => void} edit
 * @property {(turn: Turn) => void} again
 * @property {(turn: Turn) => void} fork
 * @property {(turn: Turn) => string} curl
 * @property {(call: CallBlock, question: import("./fold.js").Confirmation) => void} answered
 */

const DEEPEST = 3;

/** @param {Turn} turn @param {number} number from 1, 0 where it is not known @param {boolean} newest @param {Around} around */
export const drawTurn = (turn, number, newest, around) =>
  guard(
    [turn, turn.version, turn.id, turn.said, number, newest, around.busy, around.session, around.risks],
    () => html`
      <section class="turn" aria-label=${number ? `Turn ${number}` : "A turn"}>
        ${turn.said ? message(turn, around) : nothing} ${blocks(turn.blocks, turn, number, newest, around, 0)}
        ${ending(turn, number, around)}
      </section>
    `,
  );

/** What a person has said. @param {Turn} turn @param {Around} around */
function message(turn, around) {
  const { content, attachments } = /** @type {import("./fold.js").Said} */ (turn.said);
  return html`<div class="mine">
    <div class="me" dir="auto"><bb-long class="pre" .form=${talk} .text=${content}></bb-long>${files(attachments)}</div>
    <div class="msgacts">
      <button class="btn plain" type="button" @click=${() => copy(content)}>
        Copy<span class="sr"> the message</span>
      </button>
      ${
        turn.id && around.session && around.writes
          ? html`<button
              class="btn plain"
              type="button"
              title="Sends another message in place of this one, in a fork of the session"
              @click=${() => around.edit(turn)}
            >
              Edit<span class="sr"> the message</span>
            </button>`
          : nothing
      }
    </div>
  </div>`;
}

/** @param {{ media_type: string, name: string }[]} attachments */
export const files = (attachments) =>
  attachments.length
    ? html`<ul class="files">
        ${attachments.map((one) => html`<li><span class="tag">${one.media_type}</span> ${talk(one.name || "a file")}</li>`)}
      </ul>`
    : nothing;

/** @param {Block[]} list @param {Turn} turn @param {number} number @param {boolean} newest @param {Around} around @param {number} depth @returns {unknown} */
function blocks(list, turn, number, newest, around, depth) {
  const running = turn.status === "running";
  const hidden = new Set(list.flatMap((one) => (one.kind === "output" ? [one.data.call_id] : [])));
  return list.map((block, n) => {
    const last = running && n === list.length - 1;
    switch (block.kind) {
      case "text":
        return html`<div class="it ${last ? "more" : ""}">${markdown(block.text)}</div>`;
      case "thinking":
        return thinking(block, last, turn);
      case "call":
        if (hidden.has(block.id) && !block.failed) return nothing;
        return call(block, turn, number, newest, around, depth);
      case "output": {
        const free = newest && !around.busy && around.writes;
        return output(block.data, { answered: block.answered || !newest, reply: free ? around.reply : null });
      }
      case "steer":
        return html`<div class="mine">
          <div class="me ${block.taken ? "" : "waits"}" dir="auto">${talk(block.words)}</div>
          <p class="meta">${block.taken ? "sent into the running turn" : "the agent reads it at its next step"}</p>
        </div>`;
      default:
        return html`<p class="note" dir="auto">
          ${talk(block.words)} <code>${block.code}</code>
          ${block.code === "authorization_required" ? block.names?.map(connect) : nothing}
        </p>`;
    }
  });
}

/** @param {import("./fold.js").ThinkingBlock} block @param {boolean} last @param {Turn} turn */
function thinking(block, last, turn) {
  const took = block.begun && block.ended ? ` for ${ms(block.ended - block.begun)}` : "";
  /** @param {Event} event */
  const toggle = (event) => {
    opened.set(block, /** @type {HTMLDetailsElement} */ (event.target).open);
    const text = /** @type {HTMLElement} */ (event.target).querySelector("bb-long");
    if (text) /** @type {any} */ (text).text = block.text;
  };
  return html`<details class="think" @toggle=${toggle}>
    <summary>${last ? state("running", "Thinking") : `Thought${took}`}</summary>
    <p dir="auto"><bb-long .form=${talk} .text=${opened.get(block) ? block.text : ""}></bb-long></p>
  </details>`;
}
/** Which thoughts are open: the text of the others is not drawn. @type {WeakMap<object, boolean>} */
const opened = new WeakMap();

/** @param {CallBlock} block @param {Turn} turn @param {number} number @param {boolean} newest @param {Around} around @param {number} depth */
function call(block, turn, number, newest, around, depth) {
  const { ask } = block;
  const asked =
    ask?.data && (ask.open || ask.data.status !== "pending" || ask.until > Date.now())
      ? html`<bb-approval
          .inSession=${true}
          .open=${true}
          .data=${ask.data}
          @answered=${(/** @type {CustomEvent} */ event) => around.answered(block, event.detail)}
        ></bb-approval>`
      : ask?.open
        ? html`<p class="note wait">${state("waiting")} ${talk(block.tool)} waits for an answer.</p>`
        : nothing;
  const inner = block.blocks.length
    ? () =>
        depth < DEEPEST
          ? html`<div class="inner">${blocks(block.blocks, turn, number, newest, around, depth + 1)}</div>`
          : html`<p><a href=${timeline(around, number)}>What it did is in the timeline</a></p>`
    : null;
  const waits = block.output === null && [...calls(block.blocks)].some((one) => one.ask?.open);
  const card = html`<bb-call
    .call=${block}
    .zone=${around.risks[block.tool] ?? "safe"}
    .inner=${inner}
    .waits=${waits}
    .version=${turn.version}
  ></bb-call>`;
  return html`${asked}${ask?.open ? nothing : card}`; // one template, so that the question's card stays the same
}

/** @param {Around} around @param {number} number */
const timeline = (around, number) => to`/sessions/${around.session}` + (number ? `?turn=${number}` : "");

/** How a turn has ended, and what can be done with it. @param {Turn} turn @param {number} number @param {Around} around */
function ending(turn, number, around) {
  if (turn.status === "running") {
    const waits = turn.blocks.length === 0;
    return waits ? html`<p class="meta">${state("running", "The agent begins")}</p>` : nothing;
  }
  const { text } = turn;
  return html`
    ${
      turn.failure
        ? html`<div class="note fail">
            <p>
              <b>This turn has failed.</b> <span dir="auto">${talk(turn.failure.message)}</span>
              <code>${turn.failure.code}</code>
            </p>
            <div class="row wrap">
              ${
                turn.said && turn.id && around.writes
                  ? html`<button class="btn" type="button" @click=${() => around.again(turn)}>
                      Try again in a fork
                    </button>`
                  : nothing
              }
            </div>
          </div>`
        : nothing
    }
    ${turn.status === "cancelled" ? html`<p class="meta">${state("cancelled", "stopped before its end")}</p>` : nothing}
    ${
      turn.finish === "max_tokens"
        ? html`<p class="note">The answer ends here: the model came to its token limit. <code>max_tokens</code></p>`
        : nothing
    }
    <div class="msgacts">
      ${text ? html`<button class="btn plain" type="button" @click=${() => copy(text)}>Copy</button>` : nothing}
      ${
        around.writes
          ? html`<button class="btn plain" type="button" @click=${() => around.fork(turn)}>Fork from here</button>`
          : nothing
      }
      ${
        turn.said
          ? html`<button
              class="btn plain"
              type="button"
              @click=${() => copy(around.curl(turn), "curl line copied, without your token")}
            >
              Copy as curl
            </button>`
          : nothing
      }
      <a class="btn plain" href=${timeline(around, number)}>Timeline</a>
    </div>
  `;
}
