// Usage and budgets: one range and one grouping, the same in every plot and in the table; budgets with what is reserved.
import { html } from "../vendor/lit-html/lit-html.js";
import { api } from "../core/api.js";
import { ZONE } from "../core/format.js";
import { Resource } from "../core/resource.js";
import { setQuery } from "../core/router.js";
import { Page } from "../core/view.js";
import { head } from "../parts/head.js";
import { budgets } from "./usage/budgets.js";
import { cost, csv, figures, plotsOf, sums } from "./usage/report.js";

/** @typedef {import("../../api.ts").Report} Report */
/** @typedef {import("../../api.ts").Statistics} Statistics */
/** @typedef {{ report: Report, daily: Report, statistics: Statistics }} Found */

const REFRESH = 60_000;
const DAY = 86_400_000;
const RANGES = { 1: "24 hours", 7: "7 days", 30: "30 days" };
const GROUPS = { agent: "Agent", model: "Model", schema: "Schema", token: "Token" };
const DATE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

export default class Usage extends Page {
  /** @type {Resource<Found>} */
  found = new Resource(this, (signal) => this.#load(signal));
  /** @type {Resource<import("../../api.ts").BudgetAnswer[]>} */
  budgets = new Resource(this, (signal) => api.get("/budgets", {}, signal));
  #asked = "";

  get title() {
    return "Usage and budgets";
  }

  start() {
    this.moved();
    this.budgets.reload();
    this.every(REFRESH, () => this.found.reload());
    this.live(["budget"], () => this.budgets.reload());
  }

  moved() {
    const asked = `${this.query("from")} ${this.query("to")} ${this.by}`;
    if (asked !== this.#asked) this.found.reload();
    this.#asked = asked;
    this.update();
  }

  /** What the sums are of. @returns {"agent" | "model" | "schema" | "token"} */
  get by() {
    const by = this.query("by");
    return /** @type {any} */ (by in GROUPS ? by : "agent");
  }

  /** The time of the report: days that the address names, or the last ones. */
  get range() {
    const from = Date.parse(this.query("from"));
    const to = Date.parse(this.query("to"));
    const until = Number.isNaN(to) ? new Date() : new Date(to + DAY);
    const since = Number.isNaN(from) ? new Date(until.getTime() - 30 * DAY) : new Date(from);
    return {
      since,
      until,
      bucket: /** @type {"hour" | "day"} */ (until.getTime() - since.getTime() > 2 * DAY ? "day" : "hour"),
    };
  }

  /** @param {AbortSignal} signal @returns {Promise<Found>} */
  async #load(signal) {
    const { since, until, bucket } = this.range;
    const time = { from: since.toISOString(), to: until.toISOString() };
    const [report, daily, statistics] = await Promise.all([
      api.get("/usage", { ...time, group_by: this.by }, signal),
      api.get("/usage", { ...time, group_by: this.by, bucket: "day" }, signal),
      api.get("/stats", { ...time, bucket, tz: ZONE }, signal),
    ]);
    return { report, daily, statistics };
  }

  draw() {
    const download = html`<button
      class="btn"
      type="button"
      ?disabled=${!this.found.value}
      @click=${() => this.#download()}
    >
      Download CSV
    </button>`;
    return html`
      ${head(this.title, { acts: download })} ${this.#filters()}
      ${this.found.shown(
        (found) => this.#found(found),
        () => html`<p class="dim" aria-busy="true">Loading</p>`,
      )}
      ${budgets(this.budgets, this.query("budget"))}
    `;
  }

  #filters() {
    const { since, until } = this.range;
    const days = this.query("from") ? Math.floor((until.getTime() - since.getTime()) / DAY) : 30;
    const chosen = this.query("to") ? 0 : days;
    /** @param {string} words @param {boolean} current @param {() => void} run */
    const choice = (words, current, run) =>
      html`<button type="button" aria-pressed=${current} @click=${run}>${words}</button>`;
    /** @param {number} n */
    const last = (n) =>
      n === 30 ? null : new Date(Date.now() - n * DAY).toISOString().slice(0, n === 1 ? 16 : 10) + (n === 1 ? "Z" : "");
    return html`<div class="filters">
      <div class="seg" role="group" aria-label="Range">
        ${Object.entries(RANGES).map(([n, words]) =>
          choice(words, chosen === Number(n), () => setQuery({ from: last(Number(n)), to: null })),
        )}
      </div>
      <div class="seg" role="group" aria-label="Group by">
        ${Object.entries(GROUPS).map(([name, words]) => choice(words, this.by === name, () => setQuery({ by: name })))}
      </div>
      <span class="meta">${DATE.format(since)} to ${DATE.format(until)}, ${ZONE}</span>
    </div>`;
  }

  /** @param {Found} found */
  #found({ report, daily, statistics }) {
    const { since, until, bucket } = this.range;
    return html`
      ${figures(report, statistics)} <bb-plot .data=${cost(daily, this.by, since, until)}></bb-plot>
      <div class="grid3">${plotsOf(statistics, bucket).map((one) => html`<bb-plot .data=${one}></bb-plot>`)}</div>
      ${sums(report, this.by)}
    `;
  }

  #download() {
    if (!this.found.value) return;
    const url = URL.createObjectURL(new Blob([csv(this.found.value.daily, this.by)], { type: "text/csv" }));
    const link = Object.assign(document.createElement("a"), { href: url, download: `usage-by-${this.by}.csv` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }
}
