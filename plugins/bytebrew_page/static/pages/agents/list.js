// The list of agents: what each has and may do, what it did in the last week, and the names that it lacks.
import { html } from "../../vendor/lit-html/lit-html.js";
import { api } from "../../core/api.js";
import { may } from "../../core/caller.js";
import { int, usd } from "../../core/format.js";
import { Resource } from "../../core/resource.js";
import { to } from "../../core/router.js";
import { marked, shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { empty, head } from "../../parts/head.js";
import { state, tag } from "../../parts/state.js";
import { table } from "../../parts/table.js";
import { newAgent } from "./new.js";

/** @typedef {import("../../../api.ts").AgentRow} Row */
/** @typedef {import("../../../api.ts").Sum} Sum */

const WEEK = 7 * 86_400_000;
const BONES = [0, 1, 2];
const MOST = 120;

class Agents extends View {
  /** @type {Resource<Row[]>} */
  #agents = new Resource(this, (signal) => api.get("/agents", {}, signal));
  /** @type {Resource<{ data: Sum[] }>} */
  #usage = new Resource(this, (signal) => api.get("/usage", { group_by: "agent", from: this.#since }, signal));

  /** @type {Resource<{ data: import("../../../api.ts").Cause[] }>} */
  #causes = new Resource(this, (signal) => api.get("/turns/causes", { from: this.#since }, signal));
  #since = "";

  start() {
    this.#since = new Date(Date.now() - WEEK).toISOString();
    this.#agents.reload();
    if (may("admin")) {
      this.#usage.reload();
      this.#causes.reload();
    }
    this.live(["config"], () => this.#agents.reload());
  }

  /** @param {string} name */
  #sum(name) {
    return this.#usage.value?.data.find((one) => one.key === name);
  }

  #columns() {
    /** @type {import("../../parts/table.js").Column<Row>[]} */
    const columns = [
      {
        title: "Agent",
        cell: (row) =>
          html`<a class="main" href=${to`/agents/${row.name}`}>${shown(row.name)}</a>
            <span class="meta about" title=${marked(row.description)}>${shown(clipped(row.description))}</span>`,
      },
      { title: "Model", cell: (row) => (row.model ? shown(row.model) : html`<span class="dim">none</span>`) },
      { title: "Tools", cell: toolsOf, label: true },
      {
        title: "May ask",
        cell: (row) => html`<span class="dim">${row.can_spawn.join(", ") || "–"}</span>`,
        label: true,
      },
      {
        title: "Version",
        cell: (row) => html`<span class="row">v${row.version} ${row.managed_by ? tag(row.managed_by.file) : ""}</span>`,
      },
    ];
    if (this.#usage.value) {
      columns.push(
        { title: "Turns, 7 d", cell: (row) => int(this.#sum(row.name)?.turns ?? 0), num: true, label: true },
        ...(this.#causes.value
          ? [{ title: "Failed", cell: (/** @type {Row} */ row) => this.#failed(row.name), num: true, label: true }]
          : []),
        { title: "Cost, 7 d", cell: (row) => this.#cost(row), num: true, label: true },
      );
    }
    const lacks = (/** @type {Row} */ row) =>
      row.warnings.length
        ? html`<span title=${marked(row.warnings.join("\n"))}
            >${state("alert", row.warnings.length === 1 ? "1 name missing" : `${row.warnings.length} names missing`)}</span
          >`
        : "";
    if (this.#agents.value?.some((row) => row.warnings.length)) {
      columns.push({ title: "What it lacks", hidden: true, cell: lacks });
    }
    return columns;
  }

  /** @param {string} name */
  #failed(name) {
    const causes = this.#causes.value?.data.filter((one) => one.agent === name) ?? [];
    const count = causes.reduce((sum, one) => sum + one.count, 0);
    if (!count) return "0";
    const query = new URLSearchParams({ status: "failed", agent: name, from: this.#since.slice(0, 10) });
    return html`<a href=${`/sessions?${query}`}>${int(count)}</a>`;
  }

  /** @param {Row} row */
  #cost(row) {
    const sum = this.#sum(row.name);
    return sum ? usd(sum.cost_usd) : usd(0);
  }

  draw() {
    const make = may("agents:write")
      ? html`<button class="btn first" type="button" @click=${() => newAgent()}>New agent</button>`
      : "";
    return html`
      ${head("Agents", {
        words: "Who does the work. An agent has a model, a prompt, tools, and others whom it may ask.",
        acts: this.#agents.value?.length ? make : "",
      })}
      ${this.#agents.shown(
        (rows) =>
          rows.length
            ? table("Agents", this.#columns(), rows, (row) => row.name)
            : empty(
                "There is no agent yet",
                "An agent answers messages with a model, and does things with tools. A schema makes it one to talk to.",
                make,
              ),
        () => table("Agents", this.#columns().map(bone), BONES, String),
      )}
    `;
  }
}
customElements.define("bb-agent-list", Agents);

/** @param {string} text */
const clipped = (text) => (text.length > MOST ? `${[...text].slice(0, MOST).join("")}…` : text);

/** @param {import("../../parts/table.js").Column<any>} column */
const bone = ({ title, num }) => ({ title, num, cell: () => html`<span class="bone w"></span>` });

/** @param {Row} row */
function toolsOf({ tools_count, confirm_before }) {
  const asks = confirm_before.length;
  return html`${tools_count} ${asks ? html`<span class="meta">${asks} ${asks === 1 ? "asks" : "ask"} first</span>` : ""}`;
}
