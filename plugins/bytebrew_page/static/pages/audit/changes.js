// Changes over the API, and refused attempts to sign in.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { clock, whole } from "../../core/format.js";
import { json, shown } from "../../core/text.js";
import { time } from "../../parts/head.js";
import { Ledger } from "./ledger.js";

/** @typedef {import("../../../api.ts").ChangeEntry} Entry */

/** @type {[string, string][]} */
const ACTORS = [
  ["admin", "admin"],
  ["user", "user"],
  ["api_token", "API token"],
  ["anonymous", "anonymous"],
];

/** An address of this page with an entry open. @param {string} id */
export const opened = (id) => {
  const query = new URLSearchParams(location.search);
  query.set("entry", id);
  return `${location.pathname}?${query}`;
};

/** @extends {Ledger<Entry>} */
class Changes extends Ledger {
  path = "/audit";
  caption = "Changes";
  /** @type {import("../../parts/table.js").Column<Entry>[]} */
  columns = [
    { title: "What", cell: (row) => html`<a class="main" href=${opened(row.id)}>${shown(row.action)}</a>` },
    { title: "When", cell: (row) => time(row.timestamp, clock, whole), nowrap: true },
    { title: "Who", cell: (row) => shown(row.actor || row.actor_type), label: true },
    { title: "As", cell: (row) => html`<span class="dim">${row.actor_type}</span>`, label: true },
    { title: "Where", cell: (row) => html`<span class="mono two where">${shown(row.resource)}</span>` },
    { title: "Status", cell: (row) => status(row.details.status_code), num: true, label: true },
  ];

  filters() {
    return html`${this.line("action", "Action, such as agent.update")}
    ${this.line("resource", "Where: PUT /api/v1/agents/sales")} ${this.choice("actor_type", "Any actor", ACTORS)}
    ${this.days()}`;
  }

  /** @param {Entry} entry */
  details({ timestamp, action, resource, actor, actor_type, details, hash }) {
    /** @type {[string, unknown][]} */
    const facts = [
      ["When", whole(timestamp)],
      ["Who", html`${shown(actor || actor_type)} <span class="meta">${actor_type}</span>`],
      ["Subject", shown(details.subject ?? "")],
      ["Action", html`<code>${shown(action)}</code>`],
      ["Where", html`<code>${shown(resource)}</code>`],
      ["Status", status(details.status_code)],
      ["From", html`<code>${shown(details.client)}</code>`],
      ["Request", html`<code>${shown(details.request_id)}</code>`],
      ["Reason", shown(details.reason ?? "")],
      ["Equal ones", details.more ? `${details.more} more in the same minute have no entry` : ""],
      ["Hash", html`<code class="hash">${hash}</code>`],
    ];
    const changes = details.changes ?? [];
    return html`<dl class="taskfacts">
        ${facts
          .filter(([, value]) => value && String(value))
          .map(
            ([name, value]) =>
              html`<dt>${name}</dt>
                <dd>${value}</dd>`,
          )}
      </dl>
      ${
        changes.length
          ? html`<h3>What has changed</h3>
              <ul class="fields">
                ${changes.map(
                  ({ field, old_value, new_value }) =>
                    html`<li>
                      <b class="mono">${shown(field)}</b>
                      ${old_value === null ? nothing : html`<pre tabindex="0" aria-label="Before">− ${json(old_value)}</pre>`}
                      ${new_value === null ? nothing : html`<pre tabindex="0" aria-label="After">+ ${json(new_value)}</pre>`}
                    </li>`,
                )}
              </ul>`
          : nothing
      }`;
  }
}
customElements.define("bb-audit-changes", Changes);

/** @param {number} code */
const status = (code) => (code < 400 ? code : html`<span class="err">${code} refused</span>`);
