// <bb-turn-failure>: why a turn failed, as its last event says, and what may be done about it.
import { html } from "../../vendor/lit-html/lit-html.js";
import { part, request } from "../../core/api.js";
import { Resource } from "../../core/resource.js";
import { go, to } from "../../core/router.js";
import { shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { copy } from "../../parts/toast.js";
import { eventsAfter } from "./journal.js";

/** @typedef {import("../../../api.ts").TurnRow} TurnRow */
/** @typedef {{ session: string, turn: TurnRow, message: string }} Data */

class TurnFailure extends View {
  /** @type {Data | null} */
  #data = null;
  #known = "";
  #busy = false;
  /** @type {Error | null} */
  #wrong = null;
  /** @type {Resource<any> | null} */
  #event = null;

  /** @param {Data} data */
  set data(data) {
    this.#data = data;
    const { session, turn } = data;
    if (turn.turn_id === this.#known) return;
    this.#known = turn.turn_id;
    this.#wrong = null;
    this.#event = new Resource(this, async (signal) => {
      const page = await eventsAfter(session, (turn.last_event ?? 1) - 1, 1, signal);
      return page.events[0]?.data ?? {};
    });
    if (this.isConnected) this.#event.reload();
  }

  start() {
    this.#event?.reload();
  }

  draw() {
    if (!this.#data) return "";
    const { session, turn, message } = this.#data;
    return html`<div class="note fail failure">
      <div>
        ${this.#event?.shown(
          (error) => html`${shown(error.message ?? "The turn failed")} <code>${error.code ?? turn.code}</code>`,
          () => html`The turn failed <code>${turn.code}</code>`,
        )}
      </div>
      <div class="row wrap">
        <a class="btn" href=${to`/chat/${session}`}>Open in chat</a>
        <button class="btn" type="button" ?disabled=${this.#busy} @click=${() => this.#again()}>
          Try again in a fork
        </button>
        <button class="btn plain" type="button" @click=${() => copy(curl(session, turn.turn_id, message))}>
          Copy as curl
        </button>
      </div>
      ${this.#wrong ? html`<div role="alert">${this.#wrong.message}</div>` : ""}
    </div>`;
  }

  /** Sends the same message once more, in a session that shares what came before it. */
  async #again() {
    const { session, turn, message } = /** @type {Data} */ (this.#data);
    this.#busy = true;
    this.#wrong = null;
    this.update();
    try {
      const json = { turn_id: turn.turn_id, message };
      const answer = await request("POST", `/sessions/${part(session)}/edit`, { json });
      answer.body?.cancel(); // the turn goes on without a reader, and the chat follows it
      go(to`/chat/${answer.headers.get("x-session-id") ?? ""}`);
    } catch (error) {
      this.#wrong = /** @type {Error} */ (error);
    } finally {
      this.#busy = false;
      this.update();
    }
  }
}
customElements.define("bb-turn-failure", TurnFailure);

/** The message of a turn as a command. @param {string} session @param {string} turn @param {string} message */
function curl(session, turn, message) {
  const body = JSON.stringify({ turn_id: turn, message }).replaceAll("'", "'\\''");
  return `curl -N ${location.origin}/api/v1/sessions/${session}/edit \\
  -H "Authorization: Bearer $BYTEBREW_TOKEN" -H 'Content-Type: application/json' \\
  -d '${body}'`;
}
