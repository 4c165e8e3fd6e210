// One MCP server: how it is, what its tools say now, and what a person decides about those that have changed.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { keyed } from "../../vendor/lit-html/directives/keyed.js";
import { repeat } from "../../vendor/lit-html/directives/repeat.js";
import { ApiError, api, part } from "../../core/api.js";
import { may } from "../../core/caller.js";
import { ago, whole } from "../../core/format.js";
import { Resource } from "../../core/resource.js";
import { go, to } from "../../core/router.js";
import { say } from "../../core/say.js";
import { shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { connect } from "../../parts/connect.js";
import { sure } from "../../parts/dialog.js";
import { head, time } from "../../parts/head.js";
import { state } from "../../parts/state.js";
import { toast } from "../../parts/toast.js";
import "./definition.js";
import "./server_form.js";
import { serverState } from "./servers.js";

/** @typedef {import("../../../api.ts").Server} Server */
/** @typedef {import("../../../api.ts").ShownTool} ShownTool */

/** What is said of a tool in the list, for each of its states. @type {Record<string, [string, string]>} */
const WORDS = {
  available: ["ok", ""],
  changed: ["alert", "changed"],
  withheld: ["withheld", "changed"],
  new: ["withheld", "new"],
};

/** How long changes are gathered, and how often a server that is away is asked for, in milliseconds. */
const MOMENT = 100;
const STATUS = 5000;

/** Whether a tool waits for somebody. @param {ShownTool} tool */
export const waits = (tool) => tool.state !== "available" && !tool.withheld;

/** `<bb-mcp-server .where=${{ server, tool, edit }}>` */
class McpServer extends View {
  #name = "";
  #tool = "";
  #edit = false;
  #busy = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {ApiError | null} */
  #error = null;
  /** @type {Resource<Server>} */
  #server = new Resource(this, (signal) => api.get(`/mcp-servers/${part(this.#name)}`, {}, signal));

  /** @param {{ server: string, tool: string, edit: boolean }} where */
  set where({ server, tool, edit }) {
    const other = server !== this.#name;
    [this.#name, this.#tool, this.#edit] = [server, tool, edit];
    if (other && this.isConnected) this.#server.reload();
    this.update();
  }

  start() {
    this.#server.reload();
    this.live(["mcp"], (change) => {
      if (!change || change.id === this.#name) this.#soon();
    });
    this.every(STATUS, () => this.#server.value?.status.status !== "connected" && this.#soon());
  }

  /** Loads it once for all changes of a moment. */
  #soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.isConnected && !this.#busy && this.#server.reload(), MOMENT);
  }

  /** @param {string} what @param {() => Promise<Server | void>} run */
  async #act(what, run) {
    this.#busy = what;
    this.#error = null;
    this.update();
    try {
      const server = await run();
      if (server) this.#server.value = server;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#error = error;
    } finally {
      this.#busy = "";
      this.update();
    }
  }

  get #path() {
    return `/mcp-servers/${part(this.#name)}`;
  }

  #reconnect() {
    return this.#act("reconnect", async () => {
      /** @type {Server} */
      const server = await api.post(`${this.#path}/reconnect`);
      say(`${this.#name}: ${server.status.status}`);
      return server;
    });
  }

  async #delete() {
    const name = this.#name;
    if (!(await sure(`Delete server ${name}`, "Its tools are gone with it, and what was approved of them."))) return;
    await this.#act("delete", async () => {
      await api.delete(this.#path);
      toast(`Server ${name} is deleted`);
      go("/tools");
    });
  }

  draw() {
    const writes = may("mcp:write");
    const busy = this.#busy !== "";
    return html`
      ${head(shown(this.#name), {
        crumb: html`<a href="/tools">Tools</a> / MCP servers /`,
        acts: writes
          ? html`<button class="btn" type="button" ?disabled=${busy} @click=${() => this.#reconnect()}>
                Connect again
              </button>
              <a class="btn" href=${to`/tools/mcp/${this.#name}?edit=1`}>Edit</a>
              <button class="btn no" type="button" ?disabled=${busy} @click=${() => this.#delete()}>Delete</button>`
          : "",
      })}
      ${this.#error ? this.#refusal(this.#error) : ""} ${this.#server.shown((server) => this.#body(server))}
    `;
  }

  /** @param {ApiError} error */
  #refusal(error) {
    return html`<div class="note fail" role="alert">
      ${error.message}
      ${
        error.status === 409 && error.details.some((one) => one.path === "$.agents")
          ? html`<ul>
              ${error.details.map(({ message }) => html`<li><a href=${to`/agents/${message}`}>${message}</a></li>`)}
            </ul>`
          : ""
      }
    </div>`;
  }

  /** @param {Server} server */
  #body(server) {
    const { status } = server;
    if (this.#edit && may("mcp:write"))
      return html`<bb-server-form
        class="narrow"
        .data=${{ server, entry: null }}
        @changed=${() => this.#server.reload()}
      ></bb-server-form>`;
    return html`
      <p class="factline dim">
        ${serverState(server)}
        ${status.connected_at ? html`<span>connected ${time(status.connected_at, ago, whole)}</span>` : ""}
        <span>${server.type}</span>
        <span class="mono">${shown(server.url || `${server.command} ${server.args.join(" ")}`)}</span>
        ${status.protocol_version ? html`<span>MCP ${status.protocol_version}</span>` : ""}
        <span>pin: ${server.pin}</span>
        <span
          >${
            server.agents.length
              ? html`used by
                ${server.agents.map((name, n) => html`${n ? ", " : ""}<a href=${to`/agents/${name}`}>${name}</a>`)}`
              : "used by no agent"
          }</span
        >
      </p>
      ${
        status.status === "error" || (status.status === "connecting" && status.last_error)
          ? html`<div class="note fail">
              ${shown(status.last_error ?? status.status_message)}
              <span class="meta">
                ${status.tries}
                ${status.tries === 1 ? "try" : "tries"}${
                  status.last_error_at ? html`, the last ${time(status.last_error_at, ago, whole)}` : ""
                }
              </span>
            </div>`
          : ""
      }
      ${
        server.enabled && server.auth_type === "oauth2" && server.auth_grant === "authorization_code"
          ? html`<div class="note">Each user connects to it as themselves. ${connect(server.name)}</div>`
          : ""
      }
      ${server.warnings.map((words) => html`<div class="note wait">${shown(words)}</div>`)}
      ${server.tools.length ? this.#tools(server) : this.#none(server)}
    `;
  }

  /** @param {Server} server */
  #none(server) {
    const words =
      server.status.status === "connected"
        ? "The server offers no tools."
        : "Its tools are shown as soon as it is connected.";
    return html`<p class="dim">${words}</p>`;
  }

  /** @param {Server} server */
  #tools(server) {
    const odd = server.tools.filter((one) => one.state !== "available");
    const same = server.tools.filter((one) => one.state === "available");
    const tool = server.tools.find((one) => one.name === this.#tool) ?? (this.#tool ? null : (odd[0] ?? same[0]));
    return html`<div class="mcp">
      <nav aria-label="Tools of ${server.name}">
        <h2>Tools</h2>
        ${this.#list(server, odd, tool)}
        <details ?open=${!odd.length || tool?.state === "available" || !matchMedia("(max-width: 640px)").matches}>
          <summary class="meta">${same.length} ${odd.length ? "unchanged" : "as they were approved"}</summary>
          ${this.#list(server, same, tool)}
        </details>
      </nav>
      ${
        tool
          ? keyed(
              tool.name,
              html`<bb-tool-definition
                .data=${{ server, tool }}
                @changed=${(/** @type {CustomEvent<Server | null>} */ event) => {
                  if (event.detail) this.#server.value = event.detail;
                  else this.#server.reload();
                  this.update();
                }}
              ></bb-tool-definition>`,
            )
          : html`<p class="dim">The server offers no tool ${shown(this.#tool)} at the moment.</p>`
      }
    </div>`;
  }

  /** @param {Server} server @param {ShownTool[]} tools @param {ShownTool | null} current */
  #list(server, tools, current) {
    return html`<ul>
      ${repeat(
        tools,
        (one) => one.name,
        (one) => {
          const [kind, words] = WORDS[one.state];
          const kept = one.withheld ? "kept withheld" : words;
          return html`<li>
            <a
              class="to"
              href=${to`/tools/mcp/${server.name}/${one.name}`}
              aria-current=${one.name === current?.name ? "true" : nothing}
              ><span class="clip grow mono">${shown(one.name)}</span>${state(
                kind,
                kept || html`<span class="sr">available</span>`,
              )}</a
            >
          </li>`;
        },
      )}
    </ul>`;
  }
}
customElements.define("bb-mcp-server", McpServer);
