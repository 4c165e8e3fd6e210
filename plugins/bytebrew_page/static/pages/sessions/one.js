// A session: its turns, where the time of one went, its events and its messages; live while a turn runs.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { api, part } from "../../core/api.js";
import { clock, int, ms, short, usd, whole } from "../../core/format.js";
import { failed, Resource } from "../../core/resource.js";
import { setQuery, to } from "../../core/router.js";
import { say } from "../../core/say.js";
import { follow } from "../../core/stream.js";
import { marked, shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { head, time } from "../../parts/head.js";
import { titled } from "./rename.js";
import { state } from "../../parts/state.js";
import "../../parts/timeline.js";
import "./events.js";
import "./failure.js";
import { sheet } from "./inspector.js";
import { eventsAfter } from "./journal.js";
import "./messages.js";
import { barsOf, stretches, sums, withoutWaits } from "./spans.js";
import { split } from "./split.js";
import { since, took, turnsOf } from "./turns.js";

/** @typedef {import("../../../api.ts").SessionDetail} SessionDetail */
/** @typedef {import("../../../api.ts").TurnRow} TurnRow */
/** @typedef {import("../../../api.ts").TurnPage} TurnPage */
/** @typedef {import("../../../api.ts").Timeline} Timeline */
/** @typedef {import("./spans.js").Bar} Bar */

const OPEN = new Set(["queued", "running", "needs_input"]);
/** Events after which the spans are others; deltas only make the open one longer. */
const STEPS = new Set([
  "tool_call",
  "tool_result",
  "confirmation",
  "message",
  "done",
  "error",
  "steered",
  "summarised",
]);
const VIEWS = ["timeline", "events", "messages"];

class SessionPage extends View {
  /** @type {import("../../core/router.js").Place} */
  #place = { page: "", rest: [], query: new URLSearchParams() };
  #session = new Resource(this, (signal) => /** @type {Promise<SessionDetail>} */ (api.get(this.#path, {}, signal)));
  /** @type {Resource<TurnRow[]>} */
  #turns = new Resource(this, (signal) => this.#allTurns(signal));
  /** @type {Resource<Timeline>} */
  #timeline = new Resource(this, (signal) => this.#spans(signal));
  /** @type {Bar[]} */
  #bars = [];
  /** How far the engine's clock is ahead of this one. */
  #ahead = 0;
  #shownTurn = "";
  #followed = false;
  #due = 0;
  #drawnSpan = "";
  /** @type {Error | null} */
  #wrong = null;

  /** @param {import("../../core/router.js").Place} place */
  set place(place) {
    this.#place = place;
    if (this.isConnected) this.#moved();
  }

  get #id() {
    return this.#place.rest[0];
  }

  get #path() {
    return `/sessions/${part(this.#id)}`;
  }

  /** @param {string} name */
  #query(name) {
    return this.#place.query.get(name) ?? "";
  }

  async start() {
    this.#session.reload();
    this.live(["turn", "approval"], (change) => {
      if (!change || change.data.session_id === this.#id || (change.data.parent_turn_id && this.#running))
        this.#again();
    });
    this.every(1000, () => this.#running && this.#grow());
    await this.#turns.reload();
    this.#moved();
  }

  /** All turns: those that have ended are known for good, the others are read again. @param {AbortSignal} signal */
  async #allTurns(signal) {
    const known = this.#turns.value ?? [];
    const open = known.findIndex((turn) => OPEN.has(turn.status));
    const found = known.slice(0, open < 0 ? known.length : open);
    for (;;) {
      /** @type {TurnPage} */
      const page = await api.get(`${this.#path}/turns`, { limit: 500, offset: found.length }, signal);
      found.push(...page.data);
      if (!page.data.length || found.length >= page.total) return found;
    }
  }

  /** @param {AbortSignal} signal */
  async #spans(signal) {
    const turn = this.#turn;
    if (!turn) throw new Error("The session has no turn yet");
    /** @type {Timeline} */
    const timeline = await api.get(`${this.#path}/turns/${part(turn.turn_id)}/spans`, {}, signal);
    this.#ahead = new Date(timeline.now).getTime() - Date.now();
    const before = this.#turns.value?.findIndex((one) => one.turn_id === timeline.turn.turn_id) ?? -1;
    if (this.#turns.value && before >= 0) this.#turns.value[before] = timeline.turn;
    this.#bars = barsOf(timeline, Date.now() + this.#ahead);
    return timeline;
  }

  /** The turn of the address, the last one without. */
  get #turn() {
    const turns = this.#turns.value ?? [];
    return turns.find((turn) => String(turn.number) === this.#query("turn")) ?? turns.at(-1);
  }

  get #running() {
    const turn = this.#timeline.value?.turn;
    return turn !== undefined && OPEN.has(turn.status);
  }

  #moved() {
    const turn = this.#turn;
    if (turn && turn.turn_id !== this.#shownTurn) {
      this.#shownTurn = turn.turn_id;
      this.#timeline = new Resource(this, (signal) => this.#spans(signal));
      this.#bars = [];
      this.#timeline.reload().then(() => this.#follow());
    }
    this.update();
  }

  /** What goes on grows by the clock, until the engine says more. */
  #grow() {
    if (this.#timeline.value) this.#bars = barsOf(this.#timeline.value, Date.now() + this.#ahead);
    this.update();
  }

  /** Loads what may have changed, at most once a moment. */
  #again() {
    if (this.#due) return;
    this.#due = window.setTimeout(async () => {
      this.#due = 0;
      if (this.left.aborted) return;
      this.#session.reload();
      await this.#turns.reload();
      if (this.#turn?.turn_id !== this.#shownTurn) this.#moved();
      else if (this.#running || OPEN.has(this.#turn?.status ?? "")) await this.#timeline.reload();
      this.#follow();
    }, 300);
  }

  /** Follows the events of a turn that runs. */
  async #follow() {
    const turn = this.#timeline.value?.turn;
    if (!turn || !OPEN.has(turn.status) || this.#followed) return;
    this.#followed = true;
    const stop = new AbortController();
    this.left.addEventListener("abort", () => stop.abort(), { once: true, signal: stop.signal });
    try {
      const { last, epoch } = await eventsAfter(this.#id, 0, 1, stop.signal);
      const after = last ? `${epoch}:${last}` : 0;
      for await (const event of follow(this.#id, { after, signal: stop.signal })) {
        /** @type {any} */ (this.querySelector("bb-session-events"))?.add(event);
        if (STEPS.has(event.event)) this.#again();
        if (event.event === "done" || event.event === "error") break;
      }
    } catch (error) {
      if (!stop.signal.aborted) this.#wrong = /** @type {Error} */ (error);
    } finally {
      stop.abort();
      this.#followed = false;
      this.#again();
    }
  }

  drawn() {
    const timeline = /** @type {import("../../parts/timeline.js").Timeline | null} */ (
      this.querySelector("bb-timeline")
    );
    const span = this.#query("span");
    if (!timeline || !this.#bars.length || this.#drawnSpan === span) return;
    this.#drawnSpan = span; // a link to a span shows it
    queueMicrotask(() => timeline.showPicked());
  }

  draw() {
    return this.#turns.shown(
      (turns) => html`${this.#session.shown((session) => this.#head(session, turns))}${this.#body(turns)}`,
      () => html`${head("Session")}${BONES}`,
    );
  }

  /** @param {SessionDetail} session @param {TurnRow[]} turns */
  #head(session, turns) {
    const crumb = html`<a href="/sessions">Sessions</a> / <span title=${session.id}>${short(session.id)}</span> ${
        session.forked_from
          ? html` · forked from
              <a href=${to`/sessions/${session.forked_from.session_id}`}>${short(session.forked_from.session_id)}</a>`
          : ""
      }`;
    const title = html`<span class="title" title=${marked(session.title)}
      >${shown(session.title || "Without words")}</span
    >`;
    const acts = html`${turnsOf(turns, this.#turn, (number) => this.#at({ turn: String(number), span: "" }))}
      <button class="btn plain" type="button" @click=${() => this.#rename(session)}>Rename</button>
      <a class="btn" href=${to`/chat/${session.id}`}>Open in chat</a>`;
    return head(title, { acts, crumb });
  }

  /** @param {SessionDetail} session */
  async #rename(session) {
    const title = await titled(session.title);
    if (title === "" || title === session.title) return;
    try {
      await api.patch(this.#path, { title });
      await this.#session.reload();
      say("Renamed");
    } catch (error) {
      this.#wrong = /** @type {Error} */ (error);
      this.update();
    }
  }

  /** @param {TurnRow[]} turns */
  #body(turns) {
    const turn = this.#turn;
    if (!turn || !turns.length) return html`<p class="meta">This session has no turn yet.</p>`;
    const view = VIEWS.includes(this.#query("view")) ? this.#query("view") : "timeline";
    return html`
      ${this.#facts(turn)}
      ${
        turn.status === "failed"
          ? html`<bb-turn-failure
              .data=${{ session: this.#id, turn, message: this.#timeline.value?.message ?? turn.message }}
            ></bb-turn-failure>`
          : ""
      }
      ${this.#wrong ? failed(this.#wrong, null, () => this.#again()) : ""}
      ${this.#timeline.shown(
        (timeline) => this.#parts(timeline),
        () => BONES,
      )}
      <nav class="views" aria-label="Views">
        ${VIEWS.map(
          (name) =>
            html`<a
              href=${this.#at({ view: name === "timeline" ? "" : name })}
              aria-current=${name === view ? "page" : nothing}
              >${name[0].toUpperCase()}${name.slice(1)}</a
            >`,
        )}
      </nav>
      ${
        view === "timeline"
          ? this.#waterfall(turn)
          : view === "events"
            ? html`<bb-session-events
                .data=${{ session: this.#id, turn, from: this.#query("at") }}
              ></bb-session-events>`
            : html`<bb-session-messages
                .data=${{ session: this.#id, turn, through: this.#query("through") }}
              ></bb-session-messages>`
      }
    `;
  }

  /** This address with other parameters. @param {Record<string, string>} changes */
  #at(changes) {
    const query = new URLSearchParams(this.#place.query);
    for (const [name, value] of Object.entries({ at: "", through: "", ...changes })) {
      if (value) query.set(name, value);
      else query.delete(name);
    }
    const text = query.toString();
    return `${to`/sessions/${this.#id}`}${text ? `?${text}` : ""}`;
  }

  /** @param {TurnRow} turn */
  #facts(turn) {
    const { usage } = turn;
    const session = this.#session.value;
    return html`<p class="factline dim">
      ${state(turn.status)}
      ${session ? html`<span>${session.schema}</span><span>${shown(session.user_sub || "no user")}</span>` : ""}
      <span>${time(turn.queued_at, clock, whole)}</span>
      <span>${ms(took(turn) ?? this.#bars[0]?.end)}</span>
      ${
        turn.first_token_at
          ? html`<span>first token after ${ms(since(turn.queued_at, turn.first_token_at))}</span>`
          : ""
      }
      ${
        usage.input_tokens || usage.output_tokens
          ? html`<span
                >${int(usage.input_tokens)} in${usage.cached_tokens ? `, ${int(usage.cached_tokens)} cached` : ""} ·
                ${int(usage.output_tokens)} out</span
              >
              <span>${usage.cost_usd === null ? "no price known" : usd(usage.cost_usd)}</span>`
          : ""
      }
      <span>${turn.versions.map((one) => (one.version ? `${one.agent} v${one.version}` : one.agent)).join(" · ")}</span>
    </p>`;
  }

  /** @param {Timeline} timeline */
  #parts(timeline) {
    if (!timeline.spans.length) return "";
    return split(sums(stretches(this.#bars)), this.#bars[0].end);
  }

  /** @param {TurnRow} turn */
  #waterfall(turn) {
    const timeline = this.#timeline.value;
    if (!timeline) return "";
    const cut = this.#query("waits") === "cut";
    const found = stretches(this.#bars);
    const bars = cut ? withoutWaits(this.#bars, found) : this.#bars;
    const picked = this.#bars.find((bar) => bar.id === this.#query("span")) ?? this.#bars[0];
    const waits = found.some(([, , what]) => what === "person");
    return html`<div class="work">
      <section aria-label="Timeline">
        ${
          waits
            ? html`<div class="seg waits" role="group" aria-label="Waits">
                <button type="button" aria-pressed=${!cut} @click=${() => setQuery({ waits: "" })}>All time</button>
                <button type="button" aria-pressed=${cut} @click=${() => setQuery({ waits: "cut" })}>
                  Without waits for people
                </button>
              </div>`
            : ""
        }
        ${
          timeline.spans.length
            ? html`<bb-timeline
                .bars=${bars}
                .picked=${picked?.id ?? ""}
                @picked=${(/** @type {CustomEvent} */ event) => this.#pick(event.detail)}
                @opened=${(/** @type {CustomEvent} */ event) => this.#sheet(event.detail)}
              ></bb-timeline>`
            : html`<p class="meta">This turn has made no step yet.</p>`
        }
        ${
          timeline.total > timeline.spans.length
            ? html`<p class="meta">The first ${int(timeline.spans.length)} of ${int(timeline.total)} parts.</p>`
            : ""
        }
      </section>
      <aside class="card inspect" aria-label="Details">
        <bb-inspector
          .data=${{ session: this.#id, turn, bar: picked, before: this.#before(turn), message: timeline.message }}
        ></bb-inspector>
      </aside>
    </div>`;
  }

  /** The turn before one. @param {TurnRow} turn */
  #before(turn) {
    return this.#turns.value?.find((one) => one.number === turn.number - 1) ?? null;
  }

  /** @param {string} id */
  #pick(id) {
    this.#drawnSpan = id === "turn" ? "" : id;
    setQuery({ span: this.#drawnSpan });
  }

  /** On a phone the details come as a sheet. @param {string} id */
  #sheet(id) {
    const turn = this.#turn;
    const bar = this.#bars.find((one) => one.id === id);
    if (!turn || !bar || !matchMedia("(max-width: 640px)").matches) return;
    const message = this.#timeline.value?.message ?? turn.message;
    sheet(bar.name, { session: this.#id, turn, bar, before: this.#before(turn), message }, this.left);
  }
}
customElements.define("bb-session-page", SessionPage);

const BONES = html`<div class="bones" aria-hidden="true"><i></i><i></i><i></i><i></i><i></i></div>`;
