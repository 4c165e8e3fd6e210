// The forms of tasks, schedules, webhooks and callbacks.
import { api, newKey, part } from "../../core/api.js";
import { go, to } from "../../core/router.js";
import { askForm, changed } from "../../parts/form_dialog.js";
import { moments } from "./moments.js";
import { shownOnce } from "./secret.js";

/** @typedef {import("../../parts/form_dialog.js").Field} Field */
/** @typedef {import("../../../api.ts").Schedule} Schedule */
/** @typedef {import("../../../api.ts").Webhook} Webhook */
/** @typedef {import("../../../api.ts").Callback} Callback */

/** The names of a list as options, with none first where that may be. @param {string} path @param {string} none @returns {Promise<[string, string][]>} */
async function named(path, none) {
  const rows = await api.get(path).catch(() => []);
  return [["", none], ...rows.map((/** @type {{ name: string }} */ row) => [row.name, row.name])];
}

/** @returns {Promise<[Field, Field]>} */
async function who() {
  const [agents, schemas] = await Promise.all([named("/agents", "choose"), named("/schemas", "none")]);
  return [
    { name: "agent", label: "Agent", kind: "choice", options: agents, hint: "agent: who does it" },
    {
      name: "schema",
      label: "Schema",
      kind: "choice",
      options: schemas,
      hint: "schema: whose memory and delegations count",
    },
  ];
}

/** @type {[string, string][]} */
export const PRIORITIES = [
  ["0", "normal"],
  ["1", "high"],
  ["2", "critical"],
];

/** Makes a task, and opens it. */
export async function newTask() {
  const [agent, schema] = await who();
  const made = await askForm(
    "New task",
    [
      { name: "title", label: "What is to be done", hint: "title: the agent reads it first" },
      agent,
      { name: "description", label: "More about it", kind: "area", hint: "description" },
      { name: "acceptance_criteria", label: "It is done when", kind: "area", hint: "acceptance_criteria, one a line" },
      schema,
      {
        name: "priority",
        label: "Priority",
        kind: "choice",
        number: true,
        options: PRIORITIES,
        hint: "priority: a step counts as much as ten minutes of waiting",
      },
      { name: "require_approval", label: "A person approves it first", kind: "box", hint: "require_approval" },
    ],
    {
      values: { title: "", description: "", acceptance_criteria: "", agent: "", schema: "", priority: 0 },
      act: "Make task",
      send: (values) => {
        const criteria = values.acceptance_criteria.split("\n").filter((/** @type {string} */ line) => line.trim());
        const headers = { "idempotency-key": newKey() };
        return api.post("/tasks", { ...values, acceptance_criteria: criteria }, { headers });
      },
    },
  );
  if (made) go(to`/tasks/${made.id}`);
}

/** Makes or changes a schedule. @param {Schedule | null} schedule @returns {Promise<Schedule | undefined>} */
export async function askSchedule(schedule) {
  const timezone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const fresh = { name: "", cron: "0 9 * * MON-FRI", timezone, agent: "", title: "", message: "", schema: "" };
  /** @type {Record<string, any>} */
  const before = schedule ? { ...schedule } : { ...fresh, missed: "skip" };
  const [agent, schema] = await who();
  /** @type {Field[]} */
  const fields = [
    { name: "cron", label: "When", hint: "cron: minute, hour, day, month, weekday" },
    { name: "timezone", label: "Time zone", hint: "timezone, such as Europe/Berlin" },
    agent,
    { name: "message", label: "What is to be done", kind: "area", hint: "message: the description of its tasks" },
    { name: "title", label: "Title of its tasks", hint: "title; without one the schedule's name" },
    schema,
    {
      name: "missed",
      label: "Times at which the engine was down",
      kind: "choice",
      options: [
        ["skip", "are skipped"],
        ["once", "are made up for by one task"],
      ],
      hint: "missed",
    },
  ];
  /** @type {Field} */
  const name = { name: "name", label: "Name", hint: "name: lower-case letters, digits, dots, dashes; it is fixed" };
  return askForm(schedule ? `Change ${schedule.name}` : "New schedule", schedule ? fields : [name, ...fields], {
    values: before,
    act: schedule ? "Save" : "Make schedule",
    below: moments,
    send: (values) =>
      schedule
        ? api.patch(`/schedules/${part(schedule.name)}`, changed(values, before))
        : api.post("/schedules", values),
  });
}

/** Makes or changes a webhook; a new one's secret is shown once. @param {Webhook | null} webhook @returns {Promise<Webhook | undefined>} */
export async function askWebhook(webhook) {
  /** @type {Record<string, any>} */
  const before = webhook ? { ...webhook } : { name: "", agent: "", schema: "", title: "", message: "{{body}}" };
  const [agent, schema] = await who();
  /** @type {Field[]} */
  const fields = [
    agent,
    { name: "title", label: "Title of its tasks", hint: "title, such as Order {{body.id}}; without one its name" },
    {
      name: "message",
      label: "What is to be done",
      kind: "area",
      hint: "message; {{body}} is the request's body, {{body.order.id}} a value in its JSON",
    },
    schema,
    {
      name: "secret",
      label: "Secret",
      kind: "secret",
      hint: webhook ? "secret: stored; write to replace" : "secret; without one, one is made and shown once",
    },
  ];
  /** @type {Field} */
  const name = { name: "name", label: "Name", hint: "name: the end of its address; it is fixed" };
  const made = await askForm(webhook ? `Change ${webhook.name}` : "New webhook", webhook ? fields : [name, ...fields], {
    values: { ...before, secret: "" },
    act: webhook ? "Save" : "Make webhook",
    send: (values) =>
      webhook
        ? api.patch(`/webhooks/${part(webhook.name)}`, changed(values, { ...before, secret: "" }))
        : api.post("/webhooks", values),
  });
  if (made?.secret) await shownOnce(`Secret of ${made.name}`, made.secret, "The sender signs its requests with it.");
  return made;
}

/** @type {[string, string][]} */
const EVENTS = [
  ["turn.failed", "turn.failed: a turn has failed"],
  ["task.ended", "task.ended: a task has ended"],
  ["approval.waiting", "approval.waiting: a person is asked"],
  ["budget.near", "budget.near: a budget is near its cap"],
];

/** Makes or changes a callback; a new one's secret is shown once. @param {Callback | null} callback @returns {Promise<Callback | undefined>} */
export async function askCallback(callback) {
  /** @type {Record<string, any>} */
  const before = callback ? { ...callback } : { name: "", url: "", events: ["task.ended"], schema: "" };
  const schemas = await named("/schemas", "all");
  /** @type {Field[]} */
  const fields = [
    { name: "url", label: "URL", hint: "url: it is sent a signed POST, as Standard Webhooks have it" },
    { name: "events", label: "When", kind: "boxes", options: EVENTS, hint: "events" },
    { name: "schema", label: "Schema", kind: "choice", options: schemas, hint: "schema: of this one alone" },
  ];
  /** @type {Field} */
  const name = { name: "name", label: "Name", hint: "name: it is fixed" };
  const title = callback ? `Change ${callback.name}` : "New callback";
  const made = await askForm(title, callback ? fields : [name, ...fields], {
    values: before,
    act: callback ? "Save" : "Make callback",
    send: (values) =>
      callback
        ? api.patch(`/callbacks/${part(callback.name)}`, changed(values, before))
        : api.post("/callbacks", values),
  });
  if (made?.secret) await shownOnce(`Secret of ${made.name}`, made.secret, "The receiver checks signatures with it.");
  return made;
}
