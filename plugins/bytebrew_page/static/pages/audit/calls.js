// Calls of tools: by whom, for whom, with what outcome.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { clock, ms, short, whole } from "../../core/format.js";
import { to } from "../../core/router.js";
import { json, shown } from "../../core/text.js";
import { code } from "../../parts/code.js";
import { time } from "../../parts/head.js";
import { state } from "../../parts/state.js";
import { opened } from "./changes.js";
import { Ledger } from "./ledger.js";

/** @typedef {import("../../../api.ts").ToolCallEntry} Entry */

/** @extends {Ledger<Entry>} */
class Calls extends Ledger {
  path = "/audit/tool-calls";
  caption = "Tool calls";
  /** @type {import("../../parts/table.js").Column<Entry>[]} */
  columns = [
    { title: "Tool", cell: (row) => html`<a class="main" href=${opened(row.id)}>${shown(row.tool_name)}</a>` },
    { title: "Outcome", cell: (row) => state(row.status) },
    { title: "When", cell: (row) => time(row.created_at, clock, whole), nowrap: true },
    { title: "Agent", cell: (row) => html`<span class="dim">${shown(row.agent_name)}</span>`, label: true },
    { title: "For", cell: (row) => html`<span class="dim">${shown(row.user_id)}</span>`, label: true },
    {
      title: "Confirmed by",
      cell: (row) => html`<span class="dim">${shown(row.confirmed_by ?? "–")}</span>`,
      label: true,
    },
    { title: "Took", cell: (row) => ms(row.duration_ms), num: true, label: true },
  ];

  filters() {
    return html`${this.line("tool", "Tool")} ${this.line("agent", "Agent")} ${this.line("user_id", "User")}
    ${this.choice("status", "Any outcome", [
      ["completed", "completed"],
      ["failed", "failed"],
    ])}
    ${this.days()}`;
  }

  /** @param {Entry} entry */
  details(entry) {
    /** @type {[string, unknown][]} */
    const facts = [
      ["Tool", html`<code>${shown(entry.tool_name)}</code>`],
      ["Outcome", state(entry.status)],
      ["When", whole(entry.created_at)],
      ["Took", ms(entry.duration_ms)],
      ["Agent", shown(entry.agent_name)],
      ["For", shown(entry.user_id)],
      ["Confirmed by", entry.confirmed_by && shown(entry.confirmed_by)],
      ["Session", html`<a href=${to`/sessions/${entry.session_id}`}>${short(entry.session_id)}</a>`],
      ["Within", entry.parent_call_id && html`the call <code>${shown(entry.parent_call_id)}</code>`],
    ];
    return html`<dl class="taskfacts">
        ${facts
          .filter(([, value]) => value)
          .map(
            ([name, value]) =>
              html`<dt>${name}</dt>
                <dd>${value}</dd>`,
          )}
      </dl>
      ${code("Input", pretty(entry.input), entry.input)}
      ${entry.output ? code("Output, its first 10 KB", shown(entry.output), entry.output) : nothing}`;
  }
}
customElements.define("bb-audit-calls", Calls);

/** @param {string} input */
function pretty(input) {
  try {
    return json(JSON.parse(input));
  } catch {
    return shown(input);
  }
}
