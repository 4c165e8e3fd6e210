// The list of sessions: as many as there are, of which those in view are in the document.
import { html } from "../../vendor/lit-html/lit-html.js";
import { repeat } from "../../vendor/lit-html/directives/repeat.js";
import { api } from "../../core/api.js";
import { ago, int, ms, usd, whole } from "../../core/format.js";
import { failed } from "../../core/resource.js";
import { go, setQuery, to } from "../../core/router.js";
import { say } from "../../core/say.js";
import { styled } from "../../core/style.js";
import { marked, shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { empty, head, time } from "../../parts/head.js";
import { state } from "../../parts/state.js";
import { Windowed } from "../../parts/windowed.js";
import { filters, FILTERS, queryOf } from "./filters.js";

/** @typedef {import("../../../api.ts").SessionRow} SessionRow */
/** @typedef {import("../../../api.ts").SessionPage} SessionPage */

const PAGE = 100;

class SessionsList extends View {
  /** @type {import("../../core/router.js").Place} */
  #place = { page: "", rest: [], query: new URLSearchParams() };
  /** @type {SessionRow[]} */
  #rows = [];
  /** @type {Set<string>} */
  #ids = new Set();
  #next = "";
  #total = 0;
  #fresh = 0;
  #loading = false;
  #slow = false;
  #known = "?";
  #run = 0;
  /** @type {Error | null} */
  #error = null;
  /** @type {Date | null} */
  #at = null;
  /** @type {{ schemas: string[], agents: string[] }} */
  #names = { schemas: [], agents: [] };
  #window = new Windowed(this, () => this.querySelector("table"), 37);

  /** @param {import("../../core/router.js").Place} place */
  set place(place) {
    this.#place = place;
    if (this.isConnected) this.#moved();
  }

  start() {
    this.#window.watch();
    this.#moved();
    this.live(["turn", "approval"], () => this.#look());
    this.every(10_000, () => this.update()); // what is so long ago
    for (const name of /** @type {("schemas" | "agents")[]} */ (["schemas", "agents"])) {
      api.get(`/${name}`, {}, this.left).then(
        (answer) => {
          this.#names[name] = (answer.data ?? answer).map((/** @type {{ name: string }} */ one) => one.name);
          this.update();
        },
        () => {}, // a token may lack the scope; the filter then has what the link says
      );
    }
  }

  #moved() {
    const wanted = JSON.stringify(queryOf(this.#place.query));
    if (wanted === this.#known) return this.update();
    this.#known = wanted;
    this.#load(true);
  }

  /** Loads the first rows, or those behind what is there. @param {boolean} [anew] */
  async #load(anew = false) {
    if (this.#loading && !anew) return;
    const run = anew ? ++this.#run : this.#run;
    this.#loading = true;
    const timer = setTimeout(() => ((this.#slow = true), this.update()), 150);
    try {
      const query = { ...queryOf(this.#place.query), limit: PAGE, after: anew ? "" : this.#next };
      /** @type {SessionPage} */
      const page = await api.get("/sessions", query, this.left);
      if (run !== this.#run) return;
      if (anew) {
        this.#rows = [];
        this.#ids.clear();
        this.#fresh = 0;
      }
      this.#add(page);
      this.#error = null;
      this.#at = new Date();
    } catch (error) {
      if (run === this.#run && !this.left.aborted) this.#error = /** @type {Error} */ (error);
    } finally {
      clearTimeout(timer);
      if (run === this.#run) {
        this.#loading = this.#slow = false;
        this.update();
      }
    }
  }

  /** @param {SessionPage} page */
  #add(page) {
    const rows = page.sessions.filter((row) => !this.#ids.has(row.id)); // one that went on has moved to the front
    for (const row of rows) this.#ids.add(row.id);
    this.#rows.push(...rows);
    this.#next = page.next ?? "";
    this.#total = page.total;
  }

  /** Brings rows up to date where they stand; new ones wait until the reader wants them. */
  async #look() {
    if (this.#loading || this.#error) return;
    const run = this.#run;
    const query = { ...queryOf(this.#place.query), limit: PAGE };
    /** @type {SessionPage | null} */
    const page = await api.get("/sessions", query, this.left).catch(() => null);
    if (!page || run !== this.#run) return;
    const now = new Map(page.sessions.map((row) => [row.id, row]));
    this.#rows = this.#rows.map((row) => now.get(row.id) ?? row);
    const fresh = page.sessions.filter((row) => !this.#ids.has(row.id)).length;
    if (!this.#rows.length && fresh) return this.#load(true);
    if (fresh && fresh !== this.#fresh) say(`${fresh} new sessions`);
    this.#fresh = fresh;
    this.#total = page.total;
    this.update();
  }

  drawn() {
    if (this.#window.measure()) this.update();
    else if (this.#next && !this.#loading && !this.#error && this.#window.nearEnd(this.#rows.length)) this.#load();
  }

  draw() {
    return html`
      ${head("Sessions", { words: "What people and programs said to the agents, and what came of it." })}
      ${filters(this.#place.query, this.#names, (changes) => setQuery(changes))}
      ${
        this.#fresh
          ? html`<p class="fresh">
              <button class="btn" type="button" @click=${() => (scrollTo({ top: 0 }), this.#load(true))}>
                ${this.#fresh === PAGE ? `${PAGE} or more` : this.#fresh} new
              </button>
            </p>`
          : ""
      }
      ${this.#error ? failed(this.#error, this.#at, () => this.#load(!this.#rows.length)) : ""} ${this.#table()}
    `;
  }

  #table() {
    if (!this.#rows.length) {
      if (this.#error) return "";
      if (this.#at && !this.#loading) return this.#nothing();
      return this.#slow ? BONES : "";
    }
    const { from, to: end, above, below } = this.#window.slice(this.#rows.length);
    return html`
      <table class="stacks long sessions" aria-busy=${this.#loading} aria-rowcount=${this.#total + 1}>
        <caption class="sr">
          Sessions
        </caption>
        <thead>
          <tr>
            ${TITLES.map(([title, kind]) => html`<th scope="col" class=${kind}>${title}</th>`)}
          </tr>
        </thead>
        <tbody aria-hidden="true">
          <tr class="room" ${styled({ height: above })}></tr>
        </tbody>
        <tbody class="rows" @click=${open}>
          ${repeat(
            this.#rows.slice(from, end),
            (row) => row.id,
            (row, n) => line(row, from + n),
          )}
        </tbody>
        <tbody aria-hidden="true">
          <tr class="room" ${styled({ height: below })}></tr>
        </tbody>
      </table>
      <p class="meta after-list">${int(this.#rows.length)} of ${int(this.#total)}</p>
    `;
  }

  #nothing() {
    const clear = html`<button class="btn" type="button" @click=${() => go("/sessions")}>Clear filters</button>`;
    if (FILTERS.some((name) => this.#place.query.get(name))) {
      return empty("No session is like that", "None meets all of the filters above.", clear);
    }
    const why = "Each conversation is one: of a chat on this page, of a client of the API, of a task.";
    return empty("No sessions yet", why, html`<a class="btn" href="/chat">Start a chat</a>`);
  }
}
customElements.define("bb-sessions-list", SessionsList);

/** @type {[string, string][]} */
const TITLES = [
  ["Conversation", "wide"],
  ["State", "is"],
  ["Schema", ""],
  ["User", ""],
  ["Turns", "num few"],
  ["Last turn", "num"],
  ["Cost", "num"],
  ["When", "num when"],
];

const BONES = html`<div class="bones" aria-hidden="true"><i></i><i></i><i></i></div>`;

/** @param {SessionRow} row */
const stateOf = (row) => (row.needs_input ? "needs_input" : row.status === "active" ? "running" : row.status);

/** @param {SessionRow} row @param {number} n */
function line(row, n) {
  const title = row.title || "Without words";
  return html`<tr class="link" data-row aria-rowindex=${n + 2}>
    <td>
      <a class="main" href=${to`/sessions/${row.id}`} title=${marked(title)}>${shown(title)}</a>
      ${row.forked_from ? html`<span class="meta">fork</span>` : ""}
    </td>
    <td>${state(stateOf(row))}${row.error_code ? html` <code class="meta">${row.error_code}</code>` : ""}</td>
    <td title=${row.schema}>${row.schema}</td>
    <td title=${marked(row.user_sub)}>${shown(row.user_sub)}</td>
    <td class="num" data-label="Turns">${int(row.turns)}</td>
    <td class="num">${ms(row.last_turn_ms)}</td>
    <td class="num">${usd(row.cost_usd)}</td>
    <td class="num">${time(row.updated_at, ago, whole)}</td>
  </tr>`;
}

/** The whole row opens its link, unless something in it was meant. @param {MouseEvent} event */
function open(event) {
  const target = /** @type {Element} */ (event.target);
  if (target.closest("a, button") || getSelection()?.toString()) return;
  /** @type {HTMLElement | null | undefined} */ (target.closest("tr")?.querySelector("a.main"))?.click();
}
