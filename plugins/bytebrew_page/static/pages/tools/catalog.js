// Known MCP servers, to begin with.
import { html } from "../../vendor/lit-html/lit-html.js";
import { may } from "../../core/caller.js";
import { setQuery, to } from "../../core/router.js";
import { shown } from "../../core/text.js";
import { tag } from "../../parts/state.js";
import { table } from "../../parts/table.js";

/** @typedef {import("../../../api.ts").McpCatalogEntry} Entry */

/** @param {Entry[]} entries @param {URLSearchParams} query */
export function catalog(entries, query) {
  const words = (query.get("q") ?? "").toLowerCase();
  const category = query.get("category") ?? "";
  const categories = [...new Set(entries.map((one) => one.category))].sort();
  const found = entries.filter(
    (one) =>
      (!words || `${one.name} ${one.display} ${one.description}`.toLowerCase().includes(words)) &&
      (!category || one.category === category),
  );
  return html`
    <div class="filters">
      <input
        type="search"
        placeholder="Find a server"
        aria-label="Find a server"
        .value=${query.get("q") ?? ""}
        @input=${(/** @type {any} */ event) => setQuery({ q: event.target.value })}
      />
      <select aria-label="Category" @change=${(/** @type {any} */ event) => setQuery({ category: event.target.value })}>
        <option value="" .selected=${!category}>Any category</option>
        ${
          category && !categories.includes(category)
            ? html`<option value=${category} .selected=${true}>${category} (unknown)</option>`
            : ""
        }
        ${categories.map((one) => html`<option value=${one} .selected=${one === category}>${one}</option>`)}
      </select>
    </div>
    ${
      found.length
        ? table(
            "Known MCP servers",
            [
              {
                title: "Server",
                cell: (one) =>
                  html`<div><strong>${shown(one.display)}</strong> ${one.verified ? tag("verified") : ""}</div>
                    <div class="meta two">${shown(one.description)}</div>`,
              },
              { title: "Category", cell: (one) => one.category },
              {
                title: "Runs as",
                cell: (one) => [...new Set(one.packages.map((each) => each.type))].join(", "),
                label: true,
              },
              { title: "Tools", cell: (one) => String(one.provided_tools.length || "–"), num: true, label: true },
              {
                title: "Use it",
                hidden: true,
                num: true,
                cell: (one) =>
                  may("mcp:write")
                    ? html`<a class="main use" href=${to`/tools/mcp?from=${one.name}`} aria-label="Use ${one.display}"
                        >Use</a
                      >`
                    : "",
              },
            ],
            found,
            (one) => one.name,
          )
        : html`<p class="dim">
            No known server is like that.
            <button class="btn" type="button" @click=${() => setQuery({ q: "", category: "" })}>Clear filters</button>
          </p>`
    }
  `;
}
