// The tables of tools: MCP servers, HTTP tools, and the engine's own.
import { html } from "../../vendor/lit-html/lit-html.js";
import { to } from "../../core/router.js";
import { shown } from "../../core/text.js";
import { risk, state, tag } from "../../parts/state.js";
import { table } from "../../parts/table.js";

/** @typedef {import("../../../api.ts").Server} Server */
/** @typedef {import("../../../api.ts").HttpTool} HttpTool */
/** @typedef {import("../../../api.ts").RoutesToolsMetadata} Metadata */

/** A server's state by the engine's word for it. @type {Record<string, [string, string]>} */
const STATES = {
  connected: ["ok", "connected"],
  connecting: ["running", "connecting"],
  error: ["failed", "cannot be reached"],
  disconnected: ["queued", "disconnected"],
  disabled: ["cancelled", "switched off"],
};

/** @param {Server} server */
export function serverState({ status }) {
  const [kind, words] = STATES[status.status] ?? ["queued", status.status];
  return state(kind, words);
}

/** @param {string[]} names */
const agents = (names) =>
  names.length ? names.map((name, n) => html`${n ? ", " : ""}<a href=${to`/agents/${name}`}>${name}</a>`) : "–";

/** @param {Server[]} servers */
export const serverTable = (servers) =>
  table(
    "MCP servers",
    [
      {
        title: "Server",
        cell: (one) => html`<a class="main" href=${to`/tools/mcp/${one.name}`}>${shown(one.name)}</a>`,
      },
      { title: "State", cell: serverState },
      { title: "Transport", cell: (one) => html`<span class="dim">${one.type}</span>` },
      { title: "Address", cell: (one) => html`<span class="mono two any">${shown(one.url || one.command)}</span>` },
      { title: "MCP", cell: (one) => one.status.protocol_version ?? "–", label: true },
      { title: "Tools", cell: (one) => String(one.tools.length), num: true, label: true },
      { title: "Withheld", cell: withheld, num: true, label: true },
      { title: "Agents", cell: (one) => agents(one.agents), label: true },
    ],
    servers,
    (one) => one.name,
  );

/** @param {Server} server */
function withheld({ tools }) {
  const held = tools.filter((one) => one.state === "withheld" || one.state === "new");
  const waiting = held.filter((one) => !one.withheld);
  if (waiting.length) return state("withheld", `${waiting.length} to look at`);
  return held.length ? html`<span class="meta">${held.length} kept</span>` : "0";
}

/** @param {HttpTool[]} tools */
export const httpTable = (tools) =>
  table(
    "HTTP tools",
    [
      {
        title: "Tool",
        cell: (one) =>
          html`<div><a class="main mono" href=${to`/tools/http/${one.name}`}>${shown(one.name)}</a></div>
            <div class="meta two">${shown(one.description)}</div>`,
      },
      {
        title: "Request",
        cell: (one) => html`<span class="mono two any">${one.method} ${shown(one.url)}</span>`,
      },
      {
        title: "Risk",
        cell: (one) => html`${risk(one.security_zone)} ${one.confirmation_required ? tag("asks first") : ""}`,
      },
      { title: "Agents", cell: (one) => agents(one.agents), label: true },
    ],
    tools,
    (one) => one.name,
  );

/** @param {Metadata[]} tools */
export const ownTable = (tools) =>
  table(
    "Tools of the engine and its plugins",
    [
      {
        title: "Tool",
        cell: (one) =>
          html`<div class="mono">${shown(one.name)}</div>
            <div class="meta two">${shown(one.description)}</div>`,
      },
      { title: "From", cell: (one) => html`<span class="dim">${one.source}</span>`, label: true, nowrap: true },
      {
        title: "Risk",
        nowrap: true,
        cell: (one) => html`${risk(one.security_zone)} ${one.confirm ? tag("asks first") : ""}`,
      },
    ],
    tools,
    (one) => `${one.source} ${one.name}`,
  );
