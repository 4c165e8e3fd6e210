// A task on the board: what it is, who does it, and the one thing that can be done.
import { html } from "../../vendor/lit-html/lit-html.js";
import { ago, ms, usd } from "../../core/format.js";
import { to } from "../../core/router.js";
import { shown } from "../../core/text.js";

/** @typedef {import("../../../api.ts").Task} Task */

const PRIORITIES = ["normal", "high", "critical"];

/** How long a task has run, or ran, in milliseconds. @param {Task} task */
export function took(task) {
  if (!task.started_at) return null;
  const end = task.completed_at ? new Date(task.completed_at).getTime() : Date.now();
  return Math.max(0, end - new Date(task.started_at).getTime());
}

/** One line on how far a task is. @param {Task} task @returns {unknown} */
export function note(task) {
  const tries = task.attempts > 1 ? ` · attempt ${task.attempts}` : "";
  const cost = task.cost_usd === null ? "" : ` · ${usd(task.cost_usd)}`;
  switch (task.status) {
    case "draft":
      return "waits for approval";
    case "in_progress":
      return `${ms(took(task))}${tries}`;
    case "needs_input":
      return `asked a person · ${ms(took(task))}`;
    case "completed":
      return `${ago(task.completed_at ?? task.created_at)}${cost}`;
    case "failed":
    case "cancelled":
      return html`${shown((task.error || task.status).slice(0, 200))}${tries}`;
    default:
      return waits(task);
  }
}

/** @param {Task} task */
function waits({ blocked_by, mode, priority, error }) {
  const why = [
    blocked_by.length && `blocked by ${blocked_by.length}`,
    mode === "interactive" && "started by hand",
    priority && `priority ${PRIORITIES[priority]}`,
    error && "tries again soon",
  ].filter(Boolean);
  return why.join(" · ") || "waits for a worker";
}

/** @param {Task} task @param {unknown} act */
export const card = (task, act) => html`
  <article class="card">
    <a class="main two" href=${to`/tasks/${task.id}`}>${shown(task.title)}</a>
    <span class="meta clip">${shown(task.agent)}</span>
    <span class="meta two">${note(task)}</span>
    ${act}
  </article>
`;
