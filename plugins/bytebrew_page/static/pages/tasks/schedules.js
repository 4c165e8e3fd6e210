// Schedules: what makes tasks by the clock.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { api, newKey, part } from "../../core/api.js";
import { ZONE, ago, whole } from "../../core/format.js";
import { Resource } from "../../core/resource.js";
import { go, to } from "../../core/router.js";
import { marked, shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { bones } from "../../parts/bones.js";
import { sure } from "../../parts/dialog.js";
import { empty, head, time } from "../../parts/head.js";
import { state } from "../../parts/state.js";
import { table } from "../../parts/table.js";
import { askSchedule } from "./forms.js";
import { shownIn } from "./moments.js";
import { places } from "./places.js";

/** @typedef {import("../../../api.ts").Schedule} Schedule */

class Schedules extends View {
  #error = "";
  /** @type {Resource<Schedule[]>} */
  #schedules = new Resource(this, (signal) => api.get("/schedules", {}, signal));

  start() {
    this.#schedules.reload();
    this.live(["task", "config"], () => this.#schedules.reload());
  }

  /** @param {() => Promise<any>} act */
  async #do(act) {
    this.#error = "";
    try {
      await act();
    } catch (error) {
      this.#error = /** @type {Error} */ (error).message;
    }
    this.#schedules.reload();
  }

  /** @param {Schedule | null} schedule */
  async #ask(schedule) {
    if (await askSchedule(schedule)) this.#schedules.reload();
  }

  /** @param {string} name */
  #run(name) {
    return this.#do(async () => {
      const headers = { "idempotency-key": newKey() };
      const { task_id } = await api.post(`/schedules/${part(name)}/run`, undefined, { headers });
      go(to`/tasks/${task_id}`);
    });
  }

  /** @param {string} name */
  async #delete(name) {
    const sured = await sure(`Delete schedule ${name}`, "The tasks that it made stay.");
    if (sured) this.#do(() => api.delete(`/schedules/${part(name)}`));
  }

  #columns() {
    /** @type {import("../../parts/table.js").Column<Schedule>[]} */
    const columns = [
      {
        title: "Schedule",
        cell: (row) =>
          html`<button class="opens" type="button" @click=${() => this.#ask(row)}>${shown(row.name)}</button>
            <span class="meta about">${shown(row.title || row.message)}</span>`,
      },
      {
        title: "When",
        cell: (row) => html`<code>${row.cron}</code> <span class="meta about">${row.timezone}</span>`,
      },
      { title: `Next, in ${ZONE}`, cell: next, label: true },
      { title: "Agent", cell: (row) => html`<a href=${to`/agents/${row.agent}`}>${shown(row.agent)}</a>`, label: true },
      { title: "Last", cell: last, label: true },
    ];
    const acts = (/** @type {Schedule} */ row) =>
      html`<span class="row end">
        <button class="btn plain" type="button" aria-label="Run now: ${row.name}" @click=${() => this.#run(row.name)}>
          Run now
        </button>
        <button
          class="btn plain"
          type="button"
          aria-label="${row.enabled ? "Pause" : "Resume"} ${row.name}"
          @click=${() => this.#do(() => api.patch(`/schedules/${part(row.name)}`, { enabled: !row.enabled }))}
        >
          ${row.enabled ? "Pause" : "Resume"}
        </button>
        <button class="btn plain" type="button" aria-label="Delete ${row.name}" @click=${() => this.#delete(row.name)}>
          Delete
        </button>
      </span>`;
    return [...columns, { title: "What can be done", hidden: true, cell: acts }];
  }

  draw() {
    const make = html`<button class="btn first" type="button" @click=${() => this.#ask(null)}>New schedule</button>`;
    return html`
      ${head("Schedules", {
        words: "At each time of a schedule its agent gets a task.",
        acts: html`${places("schedules")} ${this.#schedules.value?.length ? make : nothing}`,
      })}
      ${this.#error ? html`<div class="note fail" role="alert">${this.#error}</div>` : nothing}
      ${this.#schedules.shown(
        (rows) =>
          rows.length
            ? table("Schedules", this.#columns(), rows, (row) => row.name)
            : empty(
                "There is no schedule yet",
                "One gives an agent a task by the clock, such as a report each morning.",
                make,
              ),
        () => bones(["Schedule", "When", "Next"]),
      )}
    `;
  }
}
customElements.define("bb-schedules", Schedules);

/** When a schedule fires next, by the reader's clock and by its own. @param {Schedule} row */
function next({ enabled, next_at, timezone }) {
  if (!enabled) return state("cancelled", "paused");
  if (!next_at) return state("alert", "never again");
  const own = timezone === ZONE ? nothing : html`<span class="meta about">${shownIn(next_at, timezone)} there</span>`;
  return html`<time datetime=${next_at}>${shownIn(next_at, ZONE)}</time> ${own}`;
}

/** What came of it last. @param {Schedule} row */
function last({ last_at, last_task_id, last_error }) {
  if (last_error) return html`<span class="err two" title=${marked(last_error)}>${shown(last_error)}</span>`;
  if (!last_at) return html`<span class="dim">never</span>`;
  return last_task_id
    ? html`<a href=${to`/tasks/${last_task_id}`}>${time(last_at, ago, whole)}</a>`
    : time(last_at, ago, whole);
}
