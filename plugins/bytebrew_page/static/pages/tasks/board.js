// All tasks: a board by status that follows what happens, or a table.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { repeat } from "../../vendor/lit-html/directives/repeat.js";
import { api, part } from "../../core/api.js";
import { ago, int, usd, whole } from "../../core/format.js";
import { Resource } from "../../core/resource.js";
import { setQuery, to } from "../../core/router.js";
import { say } from "../../core/say.js";
import { shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { bones } from "../../parts/bones.js";
import { empty, head, time } from "../../parts/head.js";
import { state } from "../../parts/state.js";
import { table } from "../../parts/table.js";
import { card, note } from "./card.js";
import { newTask } from "./forms.js";
import { places } from "./places.js";

/** @typedef {import("../../../api.ts").Task} Task */
/** @typedef {import("../../../api.ts").Counts} Counts */
/** @typedef {keyof Counts} Status */
/** @typedef {{ counts: Counts, tasks: Task[], next: string | null }} Loaded */

/** @type {{ title: string, state: string, statuses: Status[] }[]} */
const COLUMNS = [
  { title: "Pending", state: "pending", statuses: ["draft", "approved", "pending"] },
  { title: "In progress", state: "in_progress", statuses: ["in_progress"] },
  { title: "Needs an answer", state: "needs_input", statuses: ["needs_input"] },
  { title: "Completed", state: "completed", statuses: ["completed"] },
  { title: "Failed or cancelled", state: "failed", statuses: ["failed", "cancelled"] },
];
/** @type {Status[]} */
const OPEN = ["draft", "approved", "pending", "in_progress", "needs_input"];
/** @type {Status[]} */
const ENDED = ["completed", "failed", "cancelled"];
const SOURCES = ["api", "agent", "dashboard", "schedule", "webhook"];
const MOST_OPEN = 200;
const SHOWN = 50;
const SHOWN_ENDED = 10;
const PAGE = 100;
const CALM = 300;

class Board extends View {
  /** @type {Record<string, string>} */
  #wanted = {};
  /** @type {string[]} */
  #agents = [];
  /** @type {Task[]} */
  #more = [];
  /** @type {string | null} */
  #next = null;
  #error = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {Resource<Loaded>} */
  #tasks = new Resource(this, (signal) => this.#load(signal));

  /** @param {Record<string, string>} wanted */
  set wanted(wanted) {
    const before = JSON.stringify(this.#wanted);
    this.#wanted = wanted;
    if (this.isConnected && before !== JSON.stringify(wanted)) this.#reload();
  }

  async start() {
    this.#reload();
    this.live(["task", "approval"], () => this.#soon());
    this.every(1000, () => this.#tasks.value?.counts.in_progress && this.update());
    const rows = await api.get("/agents", {}, this.left).catch(() => []);
    this.#agents = rows.map((/** @type {{ name: string }} */ row) => row.name);
    this.update();
  }

  /** Many changes of a moment are one look. */
  #soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.isConnected && this.#reload(), CALM);
  }

  async #reload() {
    await this.#tasks.reload();
    this.#more = [];
    this.#next = this.#tasks.value?.next ?? null;
    this.update();
  }

  /** @param {AbortSignal} signal @returns {Promise<Loaded>} */
  async #load(signal) {
    const { agent, source, status } = this.#wanted;
    /** @type {Counts} */
    const counts = await api.get("/tasks/counts", { agent, source }, signal);
    if (this.#isTable(counts)) {
      const page = await api.get("/tasks", { agent, source, status, limit: PAGE }, signal);
      return { counts, tasks: page.data, next: page.next };
    }
    const lists = [...OPEN, ...ENDED]
      .filter((one) => counts[one])
      .map((one) => {
        const limit = OPEN.includes(one) ? SHOWN : SHOWN_ENDED;
        return api.get("/tasks", { agent, source, status: one, limit }, signal);
      });
    return { counts, tasks: (await Promise.all(lists)).flatMap((page) => page.data), next: null };
  }

  /** Whether there is a table: by choice, of one status, or where a board would be too long. @param {Counts} counts */
  #isTable(counts) {
    const { view, status } = this.#wanted;
    const open = OPEN.reduce((sum, one) => sum + counts[one], 0);
    return Boolean(status) || view === "table" || (view !== "board" && open > MOST_OPEN);
  }

  /** Rows behind those that are there. */
  async #further() {
    const { agent, source, status } = this.#wanted;
    try {
      const page = await api.get("/tasks", { agent, source, status, limit: PAGE, after: this.#next }, this.left);
      this.#more = [...this.#more, ...page.data];
      this.#next = page.next;
    } catch (error) {
      this.#error = /** @type {Error} */ (error).message;
    }
    this.update();
  }

  /** Approves a draft as it is shown here. @param {Task} task */
  async #approve(task) {
    this.#error = "";
    try {
      await api.post(`/tasks/${part(task.id)}/approve`, { digest: task.digest });
      say(`${task.title} is approved`);
    } catch (error) {
      this.#error = /** @type {Error} */ (error).message;
    }
    this.#reload();
  }

  /** @param {Task} task */
  #act(task) {
    if (task.status === "draft") {
      return html`<button
        class="btn"
        type="button"
        aria-label="Approve ${task.title}"
        @click=${() => this.#approve(task)}
      >
        Approve
      </button>`;
    }
    if (task.status !== "needs_input") return nothing;
    return html`<a class="btn" href=${to`/tasks/${task.id}`} aria-label="Answer ${task.title}">Answer</a>`;
  }

  /** @param {Loaded} loaded */
  #board({ counts, tasks }) {
    return html`<div class="board" role="group" aria-label="Tasks by status" tabindex="0">
      ${COLUMNS.map(({ title, state: shape, statuses }) => {
        const rows = tasks.filter((task) => statuses.includes(task.status));
        const count = statuses.reduce((sum, one) => sum + counts[one], 0);
        const rest = () => setQuery({ status: statuses.at(-1), view: "table" }, { push: true });
        return html`<section aria-label=${title}>
          <h2>${state(shape, title)}<span>${int(count)}</span></h2>
          ${repeat(
            sorted(rows, statuses),
            (task) => task.id,
            (task) => card(task, this.#act(task)),
          )}
          ${
            count > rows.length
              ? html`<button class="btn plain" type="button" @click=${rest}>${int(count - rows.length)} more</button>`
              : nothing
          }
        </section>`;
      })}
    </div>`;
  }

  /** @param {Loaded} loaded */
  #table({ tasks }) {
    const rows = [...tasks, ...this.#more];
    if (!rows.length) return html`<p class="dim">No task is like this.</p>`;
    return html`${table("Tasks", ROW, rows, (task) => task.id)}
    ${
      this.#next
        ? html`<p class="more"><button class="btn" type="button" @click=${() => this.#further()}>Show more</button></p>`
        : nothing
    }`;
  }

  /** @param {Loaded} loaded */
  #shown(loaded) {
    const total = Object.values(loaded.counts).reduce((sum, count) => sum + count, 0);
    const { agent, source } = this.#wanted;
    if (total) return this.#isTable(loaded.counts) ? this.#table(loaded) : this.#board(loaded);
    if (!agent && !source) {
      return empty(
        "There is no task yet",
        "A task is work for an agent that nobody waits for: made here, by a schedule, by a webhook, or by another agent.",
        html`<button class="btn first" type="button" @click=${newTask}>New task</button>`,
      );
    }
    const clear = () => setQuery({ agent: null, source: null });
    return empty(
      "No task is like this",
      "Other agents or sources may have some.",
      html`<button class="btn" type="button" @click=${clear}>Clear filters</button>`,
    );
  }

  /** @param {string} name @param {string} none @param {string[]} options */
  #choice(name, none, options) {
    const value = this.#wanted[name] ?? "";
    const known = !value || options.includes(value) ? options : [value, ...options];
    /** @param {Event} event */
    const choose = (event) => setQuery({ [name]: /** @type {HTMLSelectElement} */ (event.target).value });
    return html`<select aria-label=${none} @change=${choose}>
      <option value="">${none}</option>
      ${known.map((one) => html`<option value=${one} ?selected=${one === value}>${one.replace("_", " ")}</option>`)}
    </select>`;
  }

  draw() {
    const loaded = this.#tasks.value;
    const isTable = Boolean(loaded && this.#isTable(loaded.counts));
    return html`
      ${head("Tasks", {
        words: "Work that agents do without anybody waiting for it.",
        acts: html`${places("")} <button class="btn first" type="button" @click=${newTask}>New task</button>`,
      })}
      <div class="filters">
        ${this.#choice("agent", "Any agent", this.#agents)} ${this.#choice("source", "Any source", SOURCES)}
        ${isTable ? this.#choice("status", "Any status", [...OPEN, ...ENDED]) : nothing}
        <div class="seg" role="group" aria-label="View">
          <button type="button" aria-pressed=${!isTable} @click=${() => setQuery({ view: "board", status: null })}>
            Board
          </button>
          <button type="button" aria-pressed=${isTable} @click=${() => setQuery({ view: "table" })}>Table</button>
        </div>
      </div>
      ${this.#error ? html`<div class="note fail" role="alert">${this.#error}</div>` : nothing}
      ${this.#tasks.shown(
        (one) => this.#shown(one),
        () => bones(["Task", "State", "Agent"]),
      )}
    `;
  }
}
customElements.define("bb-board", Board);

/** The urgent first, then the oldest, as workers take them; what has ended the newest first. @param {Task[]} rows @param {Status[]} statuses */
function sorted(rows, statuses) {
  const ended = ENDED.includes(statuses[0]);
  return rows.sort((a, b) =>
    ended
      ? (b.completed_at ?? "").localeCompare(a.completed_at ?? "")
      : b.priority - a.priority || a.created_at.localeCompare(b.created_at),
  );
}

/** @type {import("../../parts/table.js").Column<Task>[]} */
const ROW = [
  { title: "Task", cell: (task) => html`<a class="main two" href=${to`/tasks/${task.id}`}>${shown(task.title)}</a>` },
  { title: "State", cell: (task) => state(task.status) },
  { title: "Agent", cell: (task) => html`<span class="dim">${shown(task.agent)}</span>` },
  { title: "How far", cell: (task) => html`<span class="dim two">${note(task)}</span>` },
  { title: "From", cell: (task) => html`<span class="dim">${task.source}</span>`, label: true },
  { title: "Cost", cell: (task) => usd(task.cost_usd), num: true, label: true },
  { title: "Made", cell: (task) => time(task.created_at, ago, whole), num: true, nowrap: true },
];
