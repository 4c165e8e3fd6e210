// What a card says of a question to a person, beside the arguments and the buttons.
import { html } from "../vendor/lit-html/lit-html.js";
import { ago, short, whole } from "../core/format.js";
import { to } from "../core/router.js";
import { exact, shown } from "../core/text.js";
import { time } from "./head.js";
import { state } from "./state.js";

/** A question of an event or of an answer; what a list says of it besides may be missing. */
/** @typedef {import("../../api.ts").Confirmation & Partial<import("../../api.ts").ConfirmationDetail>} Question */

const UNKNOWN =
  "The engine stopped while this call ran. Nobody knows whether it has happened, and the tool does not say that it may run twice.";
/** What became of a question, by its verdict. @type {Record<string, string>} */
const VERDICTS = {
  approve: "approved",
  reject: "rejected",
  retry: "to be run again",
  mark_done: "taken as done",
  fail: "taken as failed",
};

/** The same of a question that a server asks. @type {Record<string, string>} */
const ELICITED = { approve: "answered", reject: "declined", cancel: "dismissed" };

/** Who asks, for whom, and how long it has waited. @param {Question} question */
export function facts(question) {
  const waits = ago(question.created_at).replace(" ago", "");
  const agent = question.agent_version ? `${question.agent} v${question.agent_version}` : question.agent;
  const known = [agent, question.schema, question.user_sub, question.turn && `turn ${question.turn}`];
  const expiry = question.expires_at ? ` · expires ${ago(question.expires_at)}` : "";
  return html`${shown(known.filter(Boolean).join(" · "))} · waits
    <time datetime=${question.created_at} title=${whole(question.created_at)}>${waits}</time>${expiry}`;
}

/** What became of a question. @param {Question} question */
export function outcome(question) {
  if (question.status === "expired") return "has expired: nobody answered in time";
  if (question.status === "cancelled") return "was cancelled with its turn";
  if (question.kind === "elicitation") return ELICITED[question.verdict ?? ""] ?? question.status;
  return `${VERDICTS[question.verdict ?? ""] ?? question.status}${question.edited ? " with changes" : ""}`;
}

/** The line that an answered question folds to. @param {Question} question @param {boolean} mine */
export function answered(question, mine) {
  const well = question.status === "approved" || question.status === "spent";
  const by = mine ? "you" : question.answered_by;
  return html`<p class="row wrap answered" tabindex="-1">
    ${state(well ? "ok" : "cancelled", "")}
    <span
      ><b class="mono">${shown(exact(question.tool))}</b> ${outcome(question)}${by ? html` by ${shown(by)}` : ""}</span
    >
    ${question.answered_at ? html`<span class="meta">${time(question.answered_at, ago, whole)}</span>` : ""}
    ${question.reason ? html`<span class="dim">${shown(question.reason)}</span>` : ""}
  </p>`;
}

/** What a reader must know before the arguments. @param {Question} question @param {number} odd @param {boolean} rounded */
export const warnings = (question, odd, rounded) => html`
  ${question.kind === "unknown_outcome" ? html`<p class="dim">${UNKNOWN}</p>` : ""}
  ${
    odd
      ? html`<p class="note fail">
          <b>${odd} hidden ${odd === 1 ? "character" : "characters"} in these arguments.</b> They are named where they
          stand; the tool would receive them.
        </p>`
      : ""
  }
  ${
    rounded
      ? html`<p class="note fail">
          <b>A number here is too long for a browser.</b> It may be shown rounded; the tool would receive it exact.
        </p>`
      : ""
  }
`;

/** What others wrote before the call, folded: it is no part of what is approved. @param {Question} question */
export function led(question) {
  const title = question.session_title ? shown(question.session_title) : `Session ${short(question.session_id)}`;
  return html`<details class="think led">
    <summary>What led here</summary>
    ${
      question.last_user_message
        ? html`<div>
            <b>${shown(question.user_sub || "The user")}:</b>
            <span class="v">${shown(question.last_user_message)}</span>
          </div>`
        : ""
    }
    <div class="row wrap">
      <a href=${to`/sessions/${question.session_id}`}>${title}</a>
      ${question.task_id ? html`<a href=${to`/tasks/${question.task_id}`}>Task ${short(question.task_id)}</a>` : ""}
    </div>
  </details>`;
}

/**
 * The form of a rejection, whose reason is optional.
 * @param {string} id of the question
 * @param {string} reason
 * @param {{ off: boolean, write: (text: string) => void, send: () => void, back: () => void }} acts
 */
export function reasons(id, reason, { off, write, send, back }) {
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault();
    send();
  };
  return html`<form class="reason" @submit=${submit}>
    <div class="field">
      <label for="${id}-reason">Reason</label>
      <input
        id="${id}-reason"
        maxlength="1000"
        autocomplete="off"
        aria-describedby="${id}-hint"
        .value=${reason}
        @input=${(/** @type {Event} */ event) => write(/** @type {HTMLInputElement} */ (event.target).value)}
      />
      <div class="hint" id="${id}-hint">reason, optional; the agent reads it</div>
    </div>
    <div class="acts">
      <button class="btn no" type="submit" ?disabled=${off}>Reject</button>
      <button class="btn plain" type="button" @click=${back}>Back</button>
    </div>
  </form>`;
}

/**
 * How many arguments a person has changed, and the way back.
 * @param {Record<string, any>} input
 * @param {Record<string, any>} changed
 * @param {() => void} undo
 */
export function edits(input, changed, undo) {
  const count = Object.keys(changed).length;
  if (!count) return "";
  const all = new Set([...Object.keys(input), ...Object.keys(changed)]).size;
  return html`<p class="row wrap">
    <span class="dim"
      >You have changed ${count} of ${all} ${all === 1 ? "argument" : "arguments"}. The agent is told.</span
    >
    <button class="btn plain" type="button" @click=${undo}>Undo</button>
  </p>`;
}

/**
 * Why an answer was not taken; what is wrong with a field stands there.
 * @param {import("../core/api.js").ApiError} error
 * @param {Record<string, string>} wrong
 * @param {() => void} again
 */
export function refusal(error, wrong, again) {
  const named = error.details.length > 0 && Object.keys(wrong).length > 0;
  return html`<p class="note fail row wrap" role="alert">
    <span>${error.status ? shown(error.message) : "The answer did not arrive."}</span>
    ${error.code ? html`<code>${error.code}</code>` : ""}
    ${named ? "" : html`<button class="btn" type="button" @click=${again}>Send again</button>`}
  </p>`;
}
