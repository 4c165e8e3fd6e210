// Inbox: what needs a person, answered in place; beside it how the last day went.
import { html } from "../vendor/lit-html/lit-html.js";
import { api } from "../core/api.js";
import { may } from "../core/caller.js";
import { singleKeys } from "../core/preferences.js";
import { setQuery } from "../core/router.js";
import { Resource } from "../core/resource.js";
import { Page } from "../core/view.js";
import { empty, head } from "../parts/head.js";
import { statistics, today } from "./inbox/today.js";
import { failures } from "./inbox/failures.js";
import { near, spent } from "./inbox/budgets.js";
import { Questions } from "./inbox/questions.js";
import { withheld } from "./inbox/withheld.js";

/** @typedef {import("../../api.ts").Causes} Causes */
/** @typedef {import("../../api.ts").BudgetAnswer} BudgetAnswer */
/** @typedef {import("../../api.ts").Server} Server */

const REFRESH = 30_000;
const KINDS = { approval: "approvals", failure: "failed turns", drift: "withheld definitions", budget: "budgets" };

export default class Inbox extends Page {
  questions = new Questions(this);
  /** @type {Resource<Causes>} */
  causes = new Resource(this, (signal) => api.get("/turns/causes", {}, signal));
  /** @type {Resource<Server[]>} */
  servers = new Resource(this, (signal) => api.get("/mcp-servers", {}, signal));
  /** @type {Resource<BudgetAnswer[]>} */
  budgets = new Resource(this, (signal) => api.get("/budgets", {}, signal));
  statistics = new Resource(this, statistics);
  health = new Resource(this, (signal) => api.get("/health", { deep: may("config") ? "true" : "" }, signal));

  get title() {
    return "Inbox";
  }

  start() {
    const slow = [this.causes, this.statistics, this.health];
    const all = [this.questions, this.servers, this.budgets, ...slow];
    for (const one of all) one.reload();
    this.live(["approval"], () => this.questions.reload());
    this.live(["mcp"], () => this.servers.reload());
    this.live(["budget", "config"], () => this.budgets.reload());
    this.live(["turn"], (change) => {
      if (change === null || change.topic === "turn.ended") this.#due ??= setTimeout(() => this.#refresh(), 1000);
    });
    this.every(REFRESH, () => this.#refresh());
    this.addEventListener("keydown", (event) => this.#key(event), { signal: this.left });
  }

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #due;

  #refresh() {
    clearTimeout(this.#due);
    this.#due = undefined;
    for (const one of [this.causes, this.statistics, this.health]) one.reload();
  }

  /** `j` and `k` move between what can be opened. @param {KeyboardEvent} event */
  #key(event) {
    const step = { j: 1, k: -1 }[event.key];
    const target = /** @type {Element} */ (event.target);
    if (
      !step ||
      !singleKeys() ||
      event.ctrlKey ||
      event.metaKey ||
      event.altKey ||
      target.closest("input, select, textarea")
    )
      return;
    const rows = /** @type {HTMLElement[]} */ ([...this.querySelectorAll(".ask .open, .list .go")]);
    const at = rows.findIndex((row) => row === target || row.closest("li, .ask")?.contains(target));
    rows[Math.max(0, Math.min(rows.length - 1, at + step))]?.focus();
  }

  draw() {
    const kind = this.query("kind");
    /** @param {string} name */
    const wanted = (name) => !kind || kind === name;
    const sections = [
      wanted("approval") && this.questions.draw(),
      wanted("failure") && failures(this.causes),
      wanted("drift") && withheld(this.servers),
      wanted("budget") && near(this.budgets),
    ].filter(Boolean);
    return html`
      ${head("Inbox")} ${kind ? this.#filter(kind) : ""}
      <div class="cols">
        <div>${sections.length ? sections : this.#nothing()}</div>
        <aside aria-label="Last 24 hours">${today(this.statistics, this.health, spent(this.budgets.value))}</aside>
      </div>
    `;
  }

  /** @param {string} kind */
  #filter(kind) {
    const words = KINDS[/** @type {keyof typeof KINDS} */ (kind)] ?? `${kind} (unknown)`;
    return html`<p class="filters">
      <span class="pill"
        >only: ${words}
        <button type="button" aria-label="Show all kinds" @click=${() => setQuery({ kind: null })}>×</button></span
      >
    </p>`;
  }

  #nothing() {
    const waits = [this.questions, this.causes, this.servers, this.budgets].some((one) => !one.at && !one.error);
    if (waits) return "";
    const why = html`Questions of agents, failed turns, changed tools and budgets near their cap will stand here. To see
    one, let an agent ask before it uses a tool: open it and tick “Ask first”.`;
    return empty("Nothing needs you", why, html`<a class="btn" href="/agents">Open an agent</a>`);
  }
}
