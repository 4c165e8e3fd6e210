// Tools of MCP servers that agents do not have until somebody approves their definitions.
import { html } from "../../vendor/lit-html/lit-html.js";
import { to } from "../../core/router.js";
import { shown } from "../../core/text.js";
import { state } from "../../parts/state.js";

/** @typedef {import("../../../api.ts").Server} Server */

/** @param {import("../../core/resource.js").Resource<Server[]>} servers */
export function withheld(servers) {
  const found = (servers.value ?? []).flatMap((server) => {
    const open = server.tools.filter((tool) => tool.withheld === null); // nobody has decided to keep it from agents
    const changed = open.filter((tool) => tool.state === "withheld" || tool.state === "changed");
    const fresh = open.filter((tool) => tool.state === "new");
    return changed.length || fresh.length ? [{ server, changed, fresh }] : [];
  });
  if (!found.length) return "";
  const count = `${found.length} ${found.length === 1 ? "server" : "servers"}`;
  return html`<section class="block" aria-labelledby="withheld">
    <div class="bar">
      <h2 id="withheld" tabindex="-1">Withheld definitions · ${count}</h2>
      ${
        found.every(({ server }) => server.pin === "block")
          ? html`<span class="meta hide-s">agents do not have these tools meanwhile</span>`
          : ""
      }
    </div>
    <ul class="list">
      ${found.map(({ server, changed, fresh }) => {
        const [first] = [...changed, ...fresh];
        const words = [
          changed.length && `${changed.length} ${changed.length === 1 ? "tool has" : "tools have"} changed`,
          fresh.length && `${fresh.length} ${fresh.length === 1 ? "is" : "are"} new`,
        ].filter(Boolean);
        const users = server.agents.length ? `used by ${server.agents.join(", ")}` : "used by no agent";
        return html`<li>
          ${state("withheld", "")}
          <div class="line">
            <strong>${shown(server.name)}: ${words.join(", ")}</strong>
            <span class="meta">${[...changed, ...fresh].map((tool) => tool.name).join(", ")} · ${users}</span>
          </div>
          <a
            class="btn go"
            href=${to`/tools/mcp/${server.name}/${first.name}`}
            aria-label="Compare the tools of ${server.name}"
            >Compare</a
          >
        </li>`;
      })}
    </ul>
  </section>`;
}
