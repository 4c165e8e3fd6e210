// Chat: what a client of a schema sees, and beside it the numbered events that it is made of.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { keyed } from "../vendor/lit-html/directives/keyed.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { api, newKey, part } from "../core/api.js";
import { may } from "../core/caller.js";
import { short } from "../core/format.js";
import { failed, Resource } from "../core/resource.js";
import { go, setQuery, to } from "../core/router.js";
import { say } from "../core/say.js";
import { talk } from "../core/text.js";
import { Page } from "../core/view.js";
import "../parts/approval.js";
import "../parts/call.js";
import { code } from "../parts/code.js";
import { dialog } from "../parts/dialog.js";
import { state } from "../parts/state.js";
import "./chat/composer.js";
import { Conversation } from "./chat/conversation.js";
import { curl } from "./chat/curl.js";
import { events } from "./chat/events.js";
import { drawTurn, files } from "./chat/turn.js";

/** @typedef {import("../../api.ts").Schema} Schema */
/** @typedef {import("../../api.ts").AgentDetail} Agent */
/** @typedef {import("../../api.ts").Session} Session */
/** @typedef {import("./chat/fold.js").Turn} Turn */
/** @typedef {import("./chat/conversation.js").Outgoing} Outgoing */
/** @typedef {import("./chat/composer.js").Composer} Composer */
/** @typedef {import("./chat/composer.js").Mode} Mode */

const MOST_DRAWN = 50;
const NEAR = 80;
const EXAMPLES = [
  "What can you do for me?",
  "Which tools do you have, and when do you use them?",
  "Show me an example.",
];

export default class Chat extends Page {
  #conversation = new Conversation("", () => this.update());
  /** @type {Resource<Schema[]>} */
  #schemas = new Resource(this, (signal) => api.get("/schemas", {}, signal));
  /** @type {Record<string, string>} */
  #risks = {};
  /** @type {Agent | null} */
  #agent = null;
  /** @type {Turn | null} */
  #editing = null;
  #drawn = MOST_DRAWN;
  #sticks = true;
  #note = "";
  /** @type {(() => void) | null} */
  #sheet = null;
  #sizes = new ResizeObserver(() => this.#stick());

  get title() {
    return "Chat";
  }

  start() {
    this.#schemas.reload().then(() => this.#about());
    api
      .get("/tools/metadata", {}, this.left)
      .then((found) => {
        this.#risks = Object.fromEntries(found.map((/** @type {any} */ one) => [one.name, one.security_zone]));
        this.update();
      })
      .catch(() => {}); // a token without this scope sees no risks
    this.live(["approval"], () => this.#conversation.questions());
    document.addEventListener("keydown", (event) => this.#key(event), { signal: this.left });
    this.left.addEventListener("abort", () => (this.#conversation.close(), this.#sizes.disconnect()));
    this.moved();
  }

  moved() {
    const id = this.place.rest[0] ?? "";
    if (id !== this.#conversation.id || (!id && this.#conversation.turns.length)) {
      this.#conversation.close();
      this.#conversation = new Conversation(id, () => this.update());
      this.#editing = null;
      this.#note = "";
      this.#drawn = MOST_DRAWN;
      this.#sticks = true;
      if (id) this.#conversation.load().then(() => this.#opened());
    }
    this.#about();
    this.update();
  }

  #opened() {
    this.#conversation.questions();
    this.#about();
  }

  /** The schema of the session, or that of the next one. */
  get #schema() {
    return this.#conversation.schema || this.query("schema") || this.#chosen?.name || "";
  }

  get #open() {
    return (this.#schemas.value ?? []).filter((one) => one.chat_enabled);
  }

  get #chosen() {
    return this.#open.find((one) => one.name === this.query("schema")) ?? this.#open[0];
  }

  /** Who answers, for the head of the page. */
  async #about() {
    const entry = this.#schemas.value?.find((one) => one.name === this.#schema)?.entry_agent;
    if (!entry) this.#agent = null;
    else if (entry !== this.#agent?.name) {
      this.#agent = await api.get(`/agents/${part(entry)}`, {}, this.left).catch(() => null);
    }
    this.update();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.key === "." && (event.ctrlKey || event.metaKey) && this.#conversation.open) {
      event.preventDefault();
      this.#stop();
    }
  }

  async #stop() {
    this.#note = "";
    try {
      await this.#conversation.stop();
      say("Stopped");
    } catch (error) {
      this.#note = /** @type {Error} */ (error).message;
      this.update();
    }
  }

  /** @param {Outgoing} out @param {Mode} mode */
  async #send(out, mode) {
    const conversation = this.#conversation;
    this.#sticks = true;
    this.#note = "";
    if (this.#editing) {
      const path = `/sessions/${part(conversation.id)}/edit`;
      const sent = await conversation.send(path, out, { turn_id: this.#editing.id });
      this.#editing = null;
      return go(to`/chat/${sent.session}`);
    }
    const before = conversation.id;
    conversation.schema ||= this.#schema;
    const path = `/schemas/${part(this.#schema)}/chat`;
    const busy = mode === "steer" ? "steer" : "queue";
    const sent = await conversation.send(path, out, before ? { session_id: before, on_busy: busy } : {});
    if (!before && conversation === this.#conversation) {
      go(to`/chat/${sent.session}`, { replace: true });
      conversation.detail = await api.get(`/sessions/${part(sent.session)}`, {}, this.left).catch(() => null);
      this.update();
    }
  }

  /** @type {import("./chat/output.js").Reply} */
  #reply = (message, content) => this.#send({ message, content, attachments: [], key: newKey() }, "send");

  /** @param {Turn} turn */
  #edit(turn) {
    this.#editing = turn;
    this.update();
    this.#composer?.write(turn.said?.content ?? "");
  }

  #unedit() {
    this.#editing = null;
    this.update();
    this.#composer?.write("");
  }

  get #composer() {
    return /** @type {Composer | null} */ (this.querySelector("bb-composer"));
  }

  /** Sends the message of a failed turn once more. @param {Turn} turn */
  async #again(turn) {
    const { id } = this.#conversation;
    const content = turn.said?.content ?? "";
    const out = { message: content, content, attachments: [], key: newKey() };
    await this.#forking(async () => {
      const sent = await this.#conversation.send(`/sessions/${part(id)}/edit`, out, { turn_id: turn.id });
      return sent.session;
    });
  }

  /** @param {Turn} turn */
  async #fork(turn) {
    await this.#forking(async () => {
      const path = `/sessions/${part(this.#conversation.id)}/fork`;
      const made = await api.post(path, { after: turn.last }, { headers: { "idempotency-key": newKey() } });
      return made.id;
    });
  }

  /** @param {() => Promise<string>} make */
  async #forking(make) {
    this.#note = "";
    try {
      go(to`/chat/${await make()}`);
      say("You are in a fork of the session");
    } catch (error) {
      this.#note = /** @type {Error} */ (error).message;
      this.update();
    }
  }

  draw() {
    const conversation = this.#conversation;
    return html`<div class="chat">
      <div class="talk">
        ${this.#top()}
        <div class="flow" tabindex="0" aria-label="Conversation" role="region" @scroll=${this.#scrolled}>
          <div class="inner">
            ${conversation.error ? failed(conversation.error, null, () => conversation.load()) : nothing}
            ${
              this.#schemas.error && !conversation.id
                ? failed(this.#schemas.error, null, () => this.#schemas.reload())
                : nothing
            }
            ${
              conversation.loading && !conversation.turns.length
                ? html`<p class="meta">Reading the session</p>`
                : this.#turns()
            }
          </div>
        </div>
        <div class="compose">
          ${
            !this.#sticks && conversation.turns.length
              ? html`<button class="btn down" type="button" @click=${this.#down}>Go to the end</button>`
              : nothing
          }
          ${this.#note ? html`<p class="note fail" role="alert">${talk(this.#note)}</p>` : nothing} ${this.#queue()}
          ${keyed(
            conversation,
            html`<bb-composer
              .now=${{
                busy: Boolean(conversation.open),
                waits: conversation.waits,
                editing: Boolean(this.#editing),
                refused: this.#refused,
              }}
              .send=${(/** @type {Outgoing} */ out, /** @type {Mode} */ mode) => this.#send(out, mode)}
              .stop=${() => this.#stop()}
              .last=${() => this.#last()}
              .unedit=${() => this.#unedit()}
            ></bb-composer>`,
          )}
        </div>
      </div>
      <aside class="rawside" aria-label="Events">${events(conversation, () => this.update())}</aside>
    </div>`;
  }

  /** Why no message can be sent. */
  get #refused() {
    if (!may("chat")) return "This token has not the scope chat";
    if (this.#conversation.id ? this.#conversation.error : this.#schemas.error) return "";
    if (!this.#schemas.value) return "";
    const schema = this.#schemas.value.find((one) => one.name === this.#schema);
    if (schema && !schema.chat_enabled) return `Chat is off for the schema ${schema.name}`;
    return this.#schema ? "" : "There is no schema to chat with";
  }

  #last() {
    const turn = this.#conversation.turns.findLast((one) => one.said && one.id);
    if (turn) this.#edit(turn);
  }

  #top() {
    const conversation = this.#conversation;
    const names = this.#open.map((one) => one.name);
    const schema = this.#schema;
    if (schema && !names.includes(schema)) names.unshift(schema);
    return html`<div class="top">
      <h1 class="sr" tabindex="-1">Chat</h1>
      <select
        aria-label="Schema"
        title=${conversation.id ? "Another schema begins a new conversation" : nothing}
        ?disabled=${!names.length}
        @change=${(/** @type {Event} */ event) => this.#choose(/** @type {HTMLSelectElement} */ (event.target).value)}
      >
        ${repeat(
          names,
          (name) => name,
          (name) => html`<option value=${name} .selected=${name === schema}>${name}</option>`,
        )}
      </select>
      <span class="meta clip hide-s">${this.#agent ? this.#who(this.#agent) : nothing}</span>
      <span class="row side">
        ${this.#state()}
        <button class="btn more" type="button" @click=${this.#showEvents}>Events</button>
        <a class="btn" href=${schema ? `/chat?schema=${part(schema)}` : "/chat"} aria-label="New conversation">New</a>
      </span>
    </div>`;
  }

  /** @param {Agent} agent */
  #who(agent) {
    const version = /** @type {any} */ (agent).version;
    return html`<a href=${to`/agents/${agent.name}`}>${agent.name}</a>${version ? ` v${version}` : ""}${
        agent.model ? ` · ${agent.model}` : ""
      }`;
  }

  /** @param {string} name */
  #choose(name) {
    if (this.#conversation.id) go(`/chat?schema=${part(name)}`);
    else setQuery({ schema: name });
  }

  #state() {
    const { broken, open, waits, turns } = this.#conversation;
    if (broken) return state("queued", "connecting again");
    if (waits) return state("waiting");
    if (open) return state("running", "answering");
    const last = turns.at(-1);
    if (!last) return nothing;
    return last.status === "failed" ? state("failed") : state("ok", "your turn");
  }

  #showEvents() {
    const done = dialog(
      "Events",
      (close, update) => {
        this.#sheet = update;
        return html`<div class="rawside">${events(this.#conversation, update)}</div>
          <p class="row"><button class="btn" type="button" @click=${() => close()}>Close</button></p>`;
      },
      { kind: "sheet" },
    );
    done.then(() => (this.#sheet = null));
  }

  #turns() {
    const conversation = this.#conversation;
    const { turns, id, detail } = conversation;
    if (!turns.length) return id || conversation.error ? nothing : this.#empty();
    const from = Math.max(0, turns.length - this.#drawn);
    const around = {
      session: id,
      risks: this.#risks,
      busy: Boolean(conversation.open),
      writes: may("chat"),
      reply: this.#reply,
      edit: (/** @type {Turn} */ turn) => this.#edit(turn),
      again: (/** @type {Turn} */ turn) => this.#again(turn),
      fork: (/** @type {Turn} */ turn) => this.#fork(turn),
      curl: (/** @type {Turn} */ turn) => curl(this.#schema, turn === turns[0] ? "" : id, turn.said?.content ?? ""),
      answered: conversation.answered.bind(conversation),
    };
    const first = conversation.earlier ? 0 : 1;
    return html`
      ${this.#origin(detail)}
      ${
        from > 0 || conversation.earlier
          ? html`<button class="btn" type="button" @click=${() => this.#earlier(from)}>Show earlier turns</button>`
          : nothing
      }
      ${repeat(
        turns.slice(from),
        (turn) => turn,
        (turn, n) => drawTurn(turn, first && from + n + 1, turn === turns.at(-1), around),
      )}
    `;
  }

  /** Where a fork comes from. @param {Session | null} detail */
  #origin(detail) {
    const origin = detail?.forked_from;
    if (!origin) return nothing;
    const { session_id, after } = origin;
    const number = this.#conversation.turns.findIndex((one) => one.last === after) + 1;
    const words = after === 0 || this.#conversation.earlier || !number ? "from" : `from turn ${number} of`;
    return html`<p class="meta">
      Forked ${words} <a class="mono" href=${to`/chat/${session_id}`}>${short(session_id)}</a>
    </p>`;
  }

  /** @param {number} from */
  #earlier(from) {
    this.#sticks = false;
    this.#drawn += MOST_DRAWN;
    if (from === 0) this.#conversation.more();
    this.update();
  }

  #empty() {
    const schema = this.#schemas.value?.find((one) => one.name === this.#schema);
    if (this.#schemas.value && !this.#schema) {
      return html`<div class="empty">
        <h2>No schema can be talked to yet</h2>
        <p>A schema is the public face of an agent. Make one and switch its chat on; then this page talks to it.</p>
        <a class="btn first" href=${this.#schemas.value.length ? "/schemas" : "/start"}>
          ${this.#schemas.value.length ? "Go to the schemas" : "Set up the first agent"}
        </a>
      </div>`;
    }
    if (!this.#schema) return nothing;
    const message = EXAMPLES[0];
    return html`<div class="empty">
        <h2>Talk to ${this.#schema}</h2>
        <p dir="auto">${talk(schema?.description || "What you write goes to its entry agent, as from any client.")}</p>
        <ul class="stack" aria-label="Example messages">
          ${EXAMPLES.map(
            (words) =>
              html`<li>
                <button
                  class="btn"
                  type="button"
                  ?disabled=${Boolean(this.#refused)}
                  @click=${() => this.#example(words)}
                >
                  ${words}
                </button>
              </li>`,
          )}
        </ul>
      </div>
      ${code("The same as a client does it", curl(this.#schema, "", message), curl(this.#schema, "", message))}`;
  }

  /** @param {string} words */
  #example(words) {
    this.#reply(words, words).catch((error) => {
      this.#note = error.message;
      this.update();
    });
  }

  /** Messages that wait for the turn that runs. */
  #queue() {
    const { queue } = this.#conversation;
    if (!queue.length) return nothing;
    return html`<ul class="queue" aria-label="Messages that wait">
      ${queue.map(
        ({ id, said }) =>
          html`<li class="me waits">
            <span class="grow clip" dir="auto">${talk(said.content.slice(0, 500))}</span>${files(said.attachments)}
            <span class="meta">queued</span>
            <button class="btn plain" type="button" @click=${() => this.#remove(id)}>
              Remove<span class="sr"> ${said.content.slice(0, 60)}</span>
            </button>
          </li>`,
      )}
    </ul>`;
  }

  /** @param {string} id */
  async #remove(id) {
    this.#note = "";
    try {
      await this.#conversation.remove(id);
      say("The message was removed");
    } catch (error) {
      this.#note = /** @type {Error} */ (error).message;
    }
    this.update();
    this.#composer?.focus();
  }

  get #flow() {
    return this.querySelector(".flow");
  }

  #scrolled() {
    const flow = this.#flow;
    if (!flow) return;
    const sticks = flow.scrollHeight - flow.scrollTop - flow.clientHeight < NEAR;
    if (sticks !== this.#sticks) this.update();
    this.#sticks = sticks;
  }

  #down() {
    this.#sticks = true;
    this.#stick();
    this.update();
  }

  #stick() {
    const flow = this.#flow;
    if (flow && this.#sticks) flow.scrollTop = flow.scrollHeight;
  }

  drawn() {
    const inner = this.querySelector(".flow > .inner");
    if (inner) this.#sizes.observe(inner);
    this.#sheet?.();
  }
}
