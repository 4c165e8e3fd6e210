// The tools of an agent: all that the engine has, those that it has first, with their risk and whether a person is asked.
import { html } from "../../vendor/lit-html/lit-html.js";
import { repeat } from "../../vendor/lit-html/directives/repeat.js";
import { shown } from "../../core/text.js";
import { risk, state } from "../../parts/state.js";
import { isOn, valueOf } from "./form.js";
import { askFirst } from "./parts.js";

/** @typedef {import("../../../api.ts").RoutesToolsMetadata} Tool */
/** @typedef {import("./form.js").Form} Form */
/** A row: a tool, how the agent has it, and the word for where it is from. */
/** @typedef {{ name: string, tool: Tool | null, from: string, has: "own" | "server" | "" }} Row */

const MCP = "mcp:";
/** The source of tools that ask other agents: those are chosen under "May ask". */
const SPAWN = "spawn";
const MANY = 12;

/** What a reader searches for and whether all tools are shown, by form. */
export class ToolsView {
  search = "";
  all = false;
}

/** @param {Form} form @param {Tool[]} tools @returns {Row[]} */
function rowsOf(form, tools) {
  const own = /** @type {string[]} */ (form.value("tools"));
  const servers = /** @type {string[]} */ (form.value("mcp_servers") ?? []);
  const rows = tools
    .filter((tool) => tool.source !== SPAWN)
    .map((tool) => {
      const server = tool.source.startsWith(MCP) ? tool.source.slice(MCP.length) : "";
      const has = server ? (servers.includes(server) ? "server" : "") : own.includes(tool.name) ? "own" : "";
      return /** @type {Row} */ ({ name: tool.name, tool, from: server ? `MCP ${server}` : tool.source, has });
    });
  const known = new Set(tools.map((tool) => tool.name));
  const absent = own.filter((name) => !known.has(name));
  return [...absent.map((name) => /** @type {Row} */ ({ name, tool: null, from: "", has: "own" })), ...rows];
}

/** @param {Form} form @param {Tool[]} tools @param {ToolsView} view @param {() => void} update */
export function toolsTable(form, tools, view, update) {
  const rows = rowsOf(form, tools);
  const first = (/** @type {Row} */ { name, tool }) => {
    const server = (form.base.mcp_servers ?? []).some((/** @type {string} */ one) => tool?.source === MCP + one);
    return server || form.base.tools.includes(name) ? 0 : 1; // by what is saved: rows stay where they are
  };
  const sorted = [...rows].sort((a, b) => first(a) - first(b));
  const search = view.search.toLowerCase();
  const hits = sorted.filter(
    (row) => !search || `${row.name} ${row.from} ${row.tool?.description ?? ""}`.toLowerCase().includes(search),
  );
  const few = view.all || search ? hits : hits.slice(0, Math.max(MANY, rows.filter((row) => row.has).length + 3));
  return html`
    ${
      rows.length > MANY
        ? html`<input
            type="search"
            aria-label="Search tools"
            placeholder="Search ${rows.length} tools"
            .value=${view.search}
            @input=${(/** @type {Event} */ event) => ((view.search = valueOf(event)), update())}
          />`
        : ""
    }
    <div class="scroll">
      <table class="stacks tools">
        <caption class="sr">
          Tools
        </caption>
        <thead>
          <tr>
            <th scope="col">Tool</th>
            <th scope="col">From</th>
            <th scope="col">Risk</th>
            <th scope="col">Ask first</th>
          </tr>
        </thead>
        <tbody>
          ${repeat(
            few,
            (row) => `${row.from} ${row.name}`,
            (row) => tableRow(form, row),
          )}
        </tbody>
      </table>
    </div>
    ${hits.length ? "" : html`<p class="meta">No tool has “${shown(view.search)}” in its name or description.</p>`}
    ${
      few.length < hits.length
        ? html`<button class="btn" type="button" @click=${() => ((view.all = true), update())}>
            Show all ${hits.length} tools
          </button>`
        : ""
    }
  `;
}

/** @param {Form} form @param {Row} row */
const tableRow = (form, { name, tool, from, has }) =>
  html`<tr>
    <td>
      <label class="row">
        <input
          type="checkbox"
          .checked=${has !== ""}
          ?disabled=${has === "server" || from.startsWith("MCP ")}
          @change=${(/** @type {Event} */ event) => form.toggle("tools", name, isOn(event))}
        />
        <b>${shown(name)}</b>
      </label>
      ${tool?.description ? html`<div class="meta two about">${shown(tool.description)}</div>` : ""}
    </td>
    <td class="dim">${tool ? shown(from) : ""}</td>
    <td>${tool ? risk(tool.security_zone) : state("alert", "not there yet")}</td>
    <td>${has ? gate(form, name, tool) : html`<span class="meta">not given</span>`}</td>
  </tr>`;

/** @param {Form} form @param {string} name @param {Tool | null} tool */
function gate(form, name, tool) {
  if (tool?.confirm) return html`<span class="dim">always asks</span>`;
  const asks = form.value("confirm_before").includes(name);
  const warns = tool?.security_zone === "dangerous" && !asks;
  return html`${askFirst(form, name)}${warns ? state("alert", "dangerous, runs at once") : ""}`;
}

/** Names of `confirm_before` that no row has a box for. @param {Form} form @param {Tool[]} tools */
export function otherGates(form, tools) {
  const boxes = new Set([
    ...rowsOf(form, tools)
      .filter((row) => row.has)
      .map((row) => row.name),
    ...form.value("can_spawn").map((/** @type {string} */ name) => `spawn_${name}`),
  ]);
  const rest = form.value("confirm_before").filter((/** @type {string} */ name) => !boxes.has(name));
  if (!rest.length) return "";
  return html`<p class="row wrap">
    <span class="meta">It also asks before tools that it does not have:</span>
    ${rest.map(
      (/** @type {string} */ name) =>
        html`<span class="pill"
          >${shown(name)}<button
            type="button"
            aria-label="Do not ask before ${name}"
            @click=${() => form.toggle("confirm_before", name, false)}
          >
            ×
          </button></span
        >`,
    )}
  </p>`;
}
