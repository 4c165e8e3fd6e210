// One task: what it asks for, how far it is, what came of it, and what a person can do.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { keyed } from "../../vendor/lit-html/directives/keyed.js";
import { api, part } from "../../core/api.js";
import { ago, ms, short, usd, whole } from "../../core/format.js";
import { Resource } from "../../core/resource.js";
import { to } from "../../core/router.js";
import { say } from "../../core/say.js";
import { shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import "../../parts/approval.js";
import { sure } from "../../parts/dialog.js";
import { askForm } from "../../parts/form_dialog.js";
import { head, time } from "../../parts/head.js";
import { markdown } from "../../parts/markdown.js";
import { state } from "../../parts/state.js";
import { took } from "./card.js";
import { PRIORITIES } from "./forms.js";
import { crumb } from "./places.js";
import "./progress.js";

/** @typedef {import("../../../api.ts").Task} Task */
/** @typedef {{ task: Task, subtasks: Task[], question: any }} Loaded */

const ENDED = ["completed", "failed", "cancelled"];

class TaskView extends View {
  task = "";
  #busy = false;
  #error = "";
  /** @type {Resource<Loaded>} */
  #loaded = new Resource(this, (signal) => this.#load(signal));

  /** @param {AbortSignal} signal @returns {Promise<Loaded>} */
  async #load(signal) {
    const path = `/tasks/${part(this.task)}`;
    const [task, subtasks] = await Promise.all([api.get(path, {}, signal), api.get(`${path}/subtasks`, {}, signal)]);
    const asks = task.confirmation_id && `/approvals/${part(task.confirmation_id)}`;
    const question = asks ? await api.get(asks, {}, signal).catch(() => null) : null;
    return { task, subtasks, question };
  }

  start() {
    this.#loaded.reload();
    this.live(["task", "approval"], (change) => {
      const mine = !change || change.id === this.task || change.topic.startsWith("approval");
      if (mine) this.#loaded.reload();
    });
    this.every(1000, () => this.#loaded.value?.task.status === "in_progress" && this.update());
    this.addEventListener("answered", () => this.#loaded.reload(), { signal: this.left });
  }

  /** @param {string} verb @param {any} body @param {string} done */
  async #act(verb, body, done) {
    this.#busy = true;
    this.#error = "";
    this.update();
    try {
      await (verb ? api.post(`/tasks/${part(this.task)}/${verb}`, body) : this.#cancelled(body));
      say(done);
    } catch (error) {
      this.#error = /** @type {Error} */ (error).message;
    }
    this.#busy = false;
    await this.#loaded.reload();
  }

  /** @param {any} body */
  #cancelled(body) {
    return api.delete(`/tasks/${part(this.task)}`, { json: body });
  }

  /** @param {Task} task */
  async #cancel(task) {
    if (await sure("Cancel the task", html`${shown(task.title)} ends here, and so do the tasks below it.`)) {
      this.#act("", { reason: "" }, "The task is cancelled");
    }
  }

  /** @param {string} verb complete or fail */
  async #end(verb) {
    const failed = verb === "fail";
    /** @type {import("../../parts/form_dialog.js").Field} */
    const field = failed
      ? { name: "reason", label: "Why", kind: "area", hint: "reason" }
      : { name: "result", label: "What it came to", kind: "area", hint: "result" };
    await askForm(failed ? "The task has failed" : "The task is completed", [field], {
      values: { [field.name]: "" },
      act: failed ? "Mark as failed" : "Mark as completed",
      send: (values) => api.post(`/tasks/${part(this.task)}/${verb}`, values),
    });
    this.#loaded.reload();
  }

  /** @param {Task} task */
  #acts(task) {
    if (ENDED.includes(task.status)) return nothing;
    /** @param {string} words @param {() => void} run @param {string} [kind] */
    const button = (words, run, kind = "") =>
      html`<button class="btn ${kind}" type="button" ?disabled=${this.#busy} @click=${run}>${words}</button>`;
    const byHand = task.mode === "interactive";
    return html`
      ${
        task.status === "draft"
          ? button("Approve", () => this.#act("approve", { digest: task.digest }, "The task is approved"), "first")
          : nothing
      }
      ${
        byHand && (task.status === "pending" || task.status === "approved")
          ? button("Start by hand", () => this.#act("start", undefined, "The task is in progress"))
          : nothing
      }
      ${
        byHand && task.status === "in_progress"
          ? html`${button("Mark as completed", () => this.#end("complete"))}
            ${button("Mark as failed", () => this.#end("fail"))}`
          : nothing
      }
      ${button("Cancel task", () => this.#cancel(task), "no")}
    `;
  }

  /** @param {Task} task */
  #facts(task) {
    /** @param {Event} event */
    const choose = (event) => {
      const priority = Number(/** @type {HTMLSelectElement} */ (event.target).value);
      this.#act("priority", { priority }, "The priority is set");
    };
    const priority = ENDED.includes(task.status)
      ? PRIORITIES[task.priority][1]
      : html`<select aria-label="Priority" ?disabled=${this.#busy} @change=${choose}>
          ${PRIORITIES.map(
            ([key, words]) => html`<option value=${key} ?selected=${key === String(task.priority)}>${words}</option>`,
          )}
        </select>`;
    /** @type {[string, unknown][]} */
    const facts = [
      ["State", state(task.status)],
      ["Agent", html`<a href=${to`/agents/${task.agent}`}>${shown(task.agent)}</a>`],
      ["Schema", task.schema && html`<a href=${to`/schemas/${task.schema}`}>${shown(task.schema)}</a>`],
      ["Priority", priority],
      ["Made", html`${time(task.created_at, ago, whole)} by ${task.source}`],
      ["Approved", task.approved_at && time(task.approved_at, ago, whole)],
      ["Began", task.started_at && time(task.started_at, ago, whole)],
      ["Took", task.started_at && ms(took(task))],
      ["Attempts", task.attempts > 1 && task.attempts],
      ["Cost", task.started_at && usd(task.cost_usd)],
      ["Session", task.started_at && html`<a href=${to`/sessions/${task.session_id}`}>${short(task.session_id)}</a>`],
      ["Below", task.parent_task_id && taskLink(task.parent_task_id)],
      ["Blocked by", task.blocked_by.length && task.blocked_by.map((id) => html`${taskLink(id)} `)],
      ["Calls back", task.callback_url && shown(task.callback_url)],
    ];
    return html`<dl class="taskfacts">
      ${facts
        .filter(([, value]) => value)
        .map(
          ([name, value]) =>
            html`<dt>${name}</dt>
              <dd>${value}</dd>`,
        )}
    </dl>`;
  }

  /** @param {Loaded} loaded */
  #shown({ task, subtasks, question }) {
    return html`<div class="cols task">
      <div class="stack">
        ${
          question
            ? html`<bb-approval .data=${question} .open=${true}></bb-approval>`
            : task.status === "needs_input"
              ? html`<div class="note wait">
                  A person is asked. The token cannot see the question: it needs approvals.
                </div>`
              : nothing
        }
        ${task.error && task.status !== "completed" ? html`<div class="note ${task.status === "failed" ? "fail" : ""}">${shown(task.error)}</div>` : nothing}
        ${
          task.result
            ? html`<section>
                <h2>Result</h2>
                ${markdown(task.result)}
              </section>`
            : nothing
        }
        ${
          task.started_at && task.mode === "background"
            ? html`<section>
                <h2>Steps</h2>
                ${keyed(task.session_id, html`<bb-progress .session=${task.session_id}></bb-progress>`)}
              </section>`
            : nothing
        }
        ${
          task.description
            ? html`<section>
                <h2>What is asked</h2>
                <p class="prose">${shown(task.description)}</p>
              </section>`
            : nothing
        }
        ${
          task.acceptance_criteria.length
            ? html`<section>
                <h2>It is done when</h2>
                <ul class="bullets">
                  ${task.acceptance_criteria.map((one) => html`<li>${shown(one)}</li>`)}
                </ul>
              </section>`
            : nothing
        }
        ${
          subtasks.length
            ? html`<section>
                <h2>Tasks below it</h2>
                <ul class="list">
                  ${subtasks.map((one) => html`<li><a class="grow clip" href=${to`/tasks/${one.id}`}>${shown(one.title)}</a>${state(one.status)}</li>`)}
                </ul>
              </section>`
            : nothing
        }
      </div>
      <aside>${this.#facts(task)}</aside>
    </div>`;
  }

  draw() {
    const task = this.#loaded.value?.task;
    return html`
      ${head(task ? shown(task.title) : "Task", { crumb: crumb(""), acts: task ? this.#acts(task) : nothing })}
      ${this.#error ? html`<div class="note fail" role="alert">${this.#error}</div>` : nothing}
      ${this.#loaded.shown((loaded) => this.#shown(loaded))}
    `;
  }
}
customElements.define("bb-task", TaskView);

/** @param {string} id */
const taskLink = (id) => html`<a class="mono" href=${to`/tasks/${id}`}>${short(id)}</a>`;
