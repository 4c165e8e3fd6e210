// <bb-session-events>: the numbered events of a turn as the journal has them; deltas in a row are one line.
import { html } from "../../vendor/lit-html/lit-html.js";
import { repeat } from "../../vendor/lit-html/directives/repeat.js";
import { clock, int } from "../../core/format.js";
import { failed, Resource } from "../../core/resource.js";
import { styled } from "../../core/style.js";
import { json, shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { code } from "../../parts/code.js";
import { Windowed } from "../../parts/windowed.js";
import { eventsAfter } from "./journal.js";

/** @typedef {import("../../../api.ts").TurnRow} TurnRow */
/** @typedef {{ session: string, turn: TurnRow, from: string }} Data */
/** @typedef {import("../../../api.ts").EventEntry} EventEntry */
/** @typedef {{ first: number, last: number, name: string, size: number, at: string | null, words: string }} Line one event, or deltas in a row */

const PAGE = 500;
const MOST = 5000;
const DELTAS = new Set(["message_delta", "thinking"]);

class Events extends View {
  /** @type {Data | null} */
  #data = null;
  #known = "";
  /** @type {Line[]} */
  #lines = [];
  #last = 0;
  #dropped = 0;
  #loading = false;
  /** Whether a turn that runs has no event behind those that are here; the stream brings more. */
  #caught = false;
  #due = false;
  /** @type {Error | null} */
  #error = null;
  /** @type {Line | null} */
  #open = null;
  #index = -1;
  /** @type {Resource<EventEntry[]> | null} */
  #body = null;
  #window = new Windowed(this, () => this.querySelector(".evlist"), 26);
  #left = "";

  /** @param {Data} data */
  set data(data) {
    this.#data = data;
    if (data.turn.turn_id !== this.#known) {
      this.#known = data.turn.turn_id;
      this.#lines = [];
      this.#dropped = 0;
      this.#caught = false;
      this.#last = (data.turn.first_event ?? 1) - 1;
      this.#open = null;
      this.#left = data.from;
      if (this.isConnected) this.#load();
    }
    this.update();
  }

  start() {
    this.#window.watch();
    this.#load();
  }

  /** The number of the turn's last event, Infinity while it runs. */
  get #end() {
    return this.#data?.turn.last_event ?? Infinity;
  }

  async #load() {
    const data = this.#data;
    if (!data || this.#loading || this.#last >= this.#end || data.turn.first_event === null) return;
    this.#loading = true;
    this.#error = null;
    try {
      const page = await eventsAfter(data.session, this.#last, PAGE, this.left);
      if (data.turn.turn_id !== this.#known) return;
      for (const event of page.events)
        if (event.id <= this.#end) this.#add(event.id, event.event, event.data, event.at);
      const { last } = page;
      this.#last = Math.max(this.#last, page.events.at(-1)?.id ?? Math.min(last, this.#end));
      this.#caught = this.#end === Infinity && this.#last >= last;
    } catch (error) {
      if (!this.left.aborted) this.#error = /** @type {Error} */ (error);
    } finally {
      this.#loading = false;
      this.#arrive();
      this.update();
    }
  }

  /** Goes to the moment of the address, once its events are there. */
  #arrive() {
    if (!this.#left) return;
    const index = this.#lines.findIndex((line) => line.at !== null && line.at >= this.#left.slice(0, 23));
    if (index < 0 && this.#last < this.#end && !this.#error) return void this.#load();
    this.#left = "";
    if (index >= 0) queueMicrotask(() => this.#show(index));
  }

  /** Adds an event of the stream. @param {import("../../core/stream.js").JournalEvent} event */
  add(event) {
    if (event.id > this.#last + 1)
      this.#caught = false; // the pages have what is missing
    else if (event.id === this.#last + 1 && !this.#loading && event.id <= this.#end) {
      this.#add(event.id, event.event, event.data, new Date().toISOString());
      this.#last = event.id;
    }
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.update();
    });
  }

  /** @param {number} n @param {string} name @param {any} data @param {string | null} at */
  #add(n, name, data, at) {
    const before = this.#lines.at(-1);
    const size = String(data?.content ?? "").length;
    if (before && DELTAS.has(name) && before.name === name && before.last === n - 1) {
      before.last = n;
      before.size += size;
      return;
    }
    this.#lines.push({
      first: n,
      last: n,
      name,
      size,
      at,
      words: DELTAS.has(name) ? "" : JSON.stringify(data).slice(0, 160),
    });
    if (this.#lines.length > MOST) this.#dropped += this.#lines.splice(0, MOST / 5).length; // an hour's watch must not grow
  }

  /** @param {number} index */
  #show(index) {
    const line = this.#lines[index];
    if (!line) return;
    this.#index = index;
    this.#open = line;
    const { session } = /** @type {Data} */ (this.#data);
    const count = Math.min(100, line.last - line.first + 1);
    this.#body = new Resource(
      this,
      async (signal) => (await eventsAfter(session, line.first - 1, count, signal)).events,
    );
    this.#body.reload();
    this.#window.show(index);
    this.update();
    queueMicrotask(() =>
      queueMicrotask(() =>
        /** @type {HTMLElement | null} */ (this.querySelector(`[data-n="${line.first}"]`))?.focus({
          preventScroll: true,
        }),
      ),
    );
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    /** @type {Record<string, number>} */
    const moves = { ArrowDown: this.#index + 1, j: this.#index + 1, ArrowUp: this.#index - 1, k: this.#index - 1 };
    if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.#show(Math.max(0, moves[event.key]));
  }

  drawn() {
    if (this.#window.measure()) this.update();
    else if (this.#last < this.#end && !this.#caught && !this.#error && this.#window.nearEnd(this.#lines.length))
      this.#load();
  }

  draw() {
    const turn = this.#data?.turn;
    if (!turn) return "";
    if (turn.first_event === null)
      return html`<p class="meta">The turn waits for its beginning and has no event yet.</p>`;
    const { from, to, above, below } = this.#window.slice(this.#lines.length);
    const end = turn.last_event ?? this.#last;
    return html`<div class="work">
      <section aria-label="Events">
        <p class="meta">
          ${end >= turn.first_event ? `Events ${int(turn.first_event)} to ${int(end)}` : "No event yet"}${
            this.#dropped ? `, the first ${int(this.#dropped)} lines of them left out here` : ""
          }
        </p>
        <ol class="evlist" @keydown=${this.#key}>
          <li class="room" role="presentation" ${styled({ height: above })}></li>
          ${repeat(
            this.#lines.slice(from, to),
            (line) => line.first,
            (line, n) => this.#line(line, from + n),
          )}
          <li class="room" role="presentation" ${styled({ height: below })}></li>
        </ol>
        ${
          this.#error
            ? html`<p class="meta">Events after ${int(this.#last)} could not be read.</p>
                ${failed(this.#error, null, () => this.#load())}`
            : ""
        }
      </section>
      <aside class="card inspect" aria-label="The event">
        ${this.#open ? this.#opened(this.#open) : html`<p class="meta">Choose an event to read it whole.</p>`}
      </aside>
    </div>`;
  }

  /** @param {Line} line @param {number} index */
  #line(line, index) {
    const count = line.last - line.first + 1;
    const what = count > 1 ? `${int(count)} × ${line.name}` : line.name;
    const words = DELTAS.has(line.name) ? `${int(line.size)} characters` : shown(line.words);
    return html`<li data-row>
      <button
        type="button"
        class="evrow mono"
        data-n=${line.first}
        aria-current=${line === this.#open ? "true" : "false"}
        @click=${() => this.#show(index)}
      >
        <span class="n">${line.first}</span><span class="what">${what}</span><span class="words">${words}</span
        ><span class="when">${line.at ? clock(line.at) : ""}</span>
      </button>
    </li>`;
  }

  /** @param {Line} line */
  #opened(line) {
    return html`<h2>${line.first === line.last ? `Event ${line.first}` : `Events ${line.first} to ${line.last}`}</h2>
      <p class="dim">${line.name}${line.at ? html` · ${clock(line.at)}` : ""}</p>
      ${this.#body?.shown((events) =>
        events.map((event) => {
          const data = /** @type {any} */ (event.data);
          return code(`${event.id} ${event.event}`, json(data), JSON.stringify(data, null, 2));
        }),
      )}`;
  }
}
customElements.define("bb-session-events", Events);
