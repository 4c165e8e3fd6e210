// Tools: what agents may use, of MCP servers, over HTTP, and of the engine itself.
import { html } from "../vendor/lit-html/lit-html.js";
import { keyed } from "../vendor/lit-html/directives/keyed.js";
import { api } from "../core/api.js";
import { may } from "../core/caller.js";
import { Resource } from "../core/resource.js";
import { Page } from "../core/view.js";
import { empty, head } from "../parts/head.js";
import { catalog } from "./tools/catalog.js";
import "./tools/http_tool.js";
import "./tools/server.js";
import { httpTable, ownTable, serverTable } from "./tools/servers.js";

/** @typedef {import("../../api.ts").Server} Server */
/** @typedef {import("../../api.ts").HttpTool} HttpTool */
/** @typedef {import("../../api.ts").RoutesToolsMetadata} Metadata */
/** @typedef {import("../../api.ts").McpCatalogEntry} Entry */

/** How long changes are gathered, in milliseconds. */
const MOMENT = 100;

export default class Tools extends Page {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {Resource<Server[]>} */
  #servers = new Resource(this, (signal) => api.get("/mcp-servers", {}, signal));
  /** @type {Resource<HttpTool[]>} */
  #http = new Resource(this, (signal) => api.get("/tools", {}, signal));
  /** @type {Resource<Metadata[]>} */
  #own = new Resource(this, (signal) => api.get("/tools/metadata", {}, signal));
  /** @type {Resource<{ servers: Entry[] }>} */
  #known = new Resource(this, (signal) => api.get("/mcp/catalog", {}, signal));

  get title() {
    const [, name, tool] = this.place.rest;
    return tool ?? name ?? "Tools";
  }

  start() {
    this.live(["mcp"], () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(
        () => this.isConnected && this.#list && may("mcp:read") && this.#servers.reload(),
        MOMENT,
      );
    });
    this.moved();
  }

  /** Whether the tables are shown, and not one thing. */
  get #list() {
    return !this.place.rest.length;
  }

  moved() {
    const [kind, name] = this.place.rest;
    if (this.#list) {
      if (may("mcp:read")) this.#servers.reload();
      if (may("config")) this.#http.reload();
      if (may("agents:read")) this.#own.reload();
    }
    if ((kind === "catalog" || (kind === "mcp" && !name)) && !this.#known.value) this.#known.reload();
    this.update();
  }

  draw() {
    const [kind, name, ...tool] = this.place.rest;
    const edit = this.query("edit") === "1";
    if (kind === "mcp" && name)
      return html`<bb-mcp-server .where=${{ server: name, tool: tool.join("/"), edit }}></bb-mcp-server>`;
    if (kind === "http" && name) return html`<bb-http-tool .where=${{ name, edit }}></bb-http-tool>`;
    if (kind === "mcp") return this.#newServer();
    if (kind === "http") return this.#newHttp();
    if (kind === "catalog")
      return html`${head("Known MCP servers", {
        crumb: html`<a href="/tools">Tools</a> /`,
        words: "Built in, works offline. Using one fills the form; nothing runs before you save it.",
      })}
      ${this.#known.shown(({ servers }) => catalog(servers, this.place.query))}`;
    return this.#tables();
  }

  #newServer() {
    const from = this.query("from");
    return html`${head("Add an MCP server", {
      crumb: html`<a href="/tools">Tools</a> /`,
      words: html`An address, or a command on the engine's machine. Or look in
        <a href="/tools/catalog">the catalog</a>.`,
    })}
    ${this.#known.shown(({ servers }) =>
      keyed(
        from,
        html`<bb-server-form
          class="narrow"
          .data=${{ server: null, entry: servers.find((one) => one.name === from) ?? null }}
        ></bb-server-form>`,
      ),
    )}`;
  }

  #newHttp() {
    return html`${head("Add an HTTP tool", {
        crumb: html`<a href="/tools">Tools</a> /`,
        words: "A request that the engine makes for an agent. Arguments of the model fill its parameters.",
      })} <bb-http-form class="narrow" .tool=${null}></bb-http-form>`;
  }

  #tables() {
    const adds = html`${may("config") ? html`<a class="btn" href="/tools/http">Add an HTTP tool</a>` : ""}
    ${may("mcp:write") ? html`<a class="btn first" href="/tools/mcp">Add a server</a>` : ""}`;
    return html`
      ${head("Tools", {
        words: "What agents may use: of MCP servers, over HTTP, and the engine's own.",
        acts: adds,
      })}
      ${this.#section("MCP servers", "mcp:read", html`<a href="/tools/catalog">From the catalog</a>`, () =>
        this.#servers.shown((servers) =>
          servers.length
            ? serverTable(servers)
            : empty(
                "No MCP server yet",
                "A server brings tools to every agent that names it: files, tickets, payments.",
                may("mcp:write") ? html`<a class="btn" href="/tools/catalog">Look in the catalog</a>` : "",
              ),
        ),
      )}
      ${this.#section("HTTP tools", "config", "", () =>
        this.#http.shown((tools) =>
          tools.length
            ? httpTable(tools)
            : empty(
                "No HTTP tool yet",
                "One request to an API of yours, with parameters that the model fills.",
                html`<a class="btn" href="/tools/http">Add an HTTP tool</a>`,
              ),
        ),
      )}
      ${this.#section("The engine's own", "agents:read", "", () =>
        this.#own.shown((tools) =>
          ownTable(tools.filter((one) => !one.source.startsWith("mcp:") && one.source !== "http")),
        ),
      )}
    `;
  }

  /** @param {string} title @param {string} scope @param {unknown} more @param {() => unknown} draw */
  #section(title, scope, more, draw) {
    return html`<section class="block" aria-label=${title}>
      <div class="bar">
        <h2>${title}</h2>
        <span class="meta">${more}</span>
      </div>
      ${may(scope) ? draw() : html`<p class="meta">They need the scope <code>${scope}</code>.</p>`}
    </section>`;
  }
}
