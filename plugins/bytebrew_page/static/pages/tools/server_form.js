// The form of an MCP server. Values that are stored come as `***`, and stay what they are where that is sent back.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { ApiError, api, part } from "../../core/api.js";
import { go, to } from "../../core/router.js";
import { View } from "../../core/view.js";
import { faults, field } from "../../parts/field.js";
import { secret } from "../../parts/secret.js";

/** @typedef {import("../../../api.ts").Server} Server */
/** @typedef {import("../../../api.ts").McpCatalogEntry} Entry */
/** @typedef {Record<string, string | boolean>} Draft */

const PATHS = [
  ...["name", "type", "url", "command", "args", "env", "headers", "auth_type", "auth_header", "auth_key"],
  ...[
    "auth_grant",
    "auth_client_id",
    "auth_issuer",
    "auth_scopes",
    "forward_headers",
    "pin",
    "allow_tools",
    "deny_tools",
    "enabled",
  ],
].map((name) => `$.${name}`);
const REMOTE = ["streamable-http", "http", "sse"];

/** Lines of `name: value`. @param {Record<string, string>} values */
const linesOf = (values) =>
  Object.entries(values)
    .map(([name, value]) => `${name}: ${value}`)
    .join("\n");
/** @param {string} text */
const valuesOf = (text) =>
  Object.fromEntries(
    text
      .split("\n")
      .filter((line) => line.trim())
      .map((line) => [line.split(":")[0].trim(), line.includes(":") ? line.slice(line.indexOf(":") + 1).trim() : ""]),
  );
/** @param {string} text */
const listOf = (text) =>
  text
    .split("\n")
    .map((one) => one.trim())
    .filter(Boolean);

/** A secret as the catalog writes it; over REST a credential is written itself. */
const VARIABLE = /\$\{[^}]*\}/g;
/** @param {{ name: string, value: string }} header */
const isBearer = ({ name, value }) => name.toLowerCase() === "authorization" && value.startsWith("Bearer ");

/** @param {Server | null} server @param {Entry | null} entry @returns {Draft} */
function draftOf(server, entry) {
  const known = entry?.packages.find((one) => one.type !== "docker") ?? entry?.packages[0];
  const env = Object.fromEntries((known?.env_vars ?? []).map((one) => [one.name, ""]));
  const bearer = known?.headers?.some(isBearer) ?? false;
  const others = (known?.headers ?? []).filter((one) => !isBearer(one));
  const headers = Object.fromEntries(others.map((one) => [one.name, one.value.replace(VARIABLE, "")]));
  const remote = known?.type === "remote";
  return {
    name: server?.name ?? entry?.name ?? "",
    type: server?.type ?? (known && !remote ? "stdio" : (known?.transport ?? "streamable-http")),
    url: server?.url ?? known?.url_template ?? "",
    command: server?.command ?? known?.command ?? "",
    args: (server?.args ?? known?.args ?? []).join("\n"),
    env: linesOf(server?.env ?? env),
    headers: linesOf(server?.headers ?? headers),
    auth_type: server?.auth_type ?? (bearer ? "bearer" : "none"),
    auth_header: server?.auth_header ?? "X-API-Key",
    auth_key: "",
    auth_grant: server?.auth_grant ?? "authorization_code",
    auth_client_id: server?.auth_client_id ?? "",
    auth_issuer: server?.auth_issuer ?? "",
    auth_scopes: (server?.auth_scopes ?? []).join("\n"),
    forward_headers: (server?.forward_headers ?? []).join("\n"),
    pin: server?.pin ?? "block",
    limited: Boolean(server?.allow_tools),
    allow_tools: (server?.allow_tools ?? []).join("\n"),
    deny_tools: (server?.deny_tools ?? []).join("\n"),
    enabled: server?.enabled ?? true,
  };
}

/** What is sent; of a server that is there, only what has changed. @param {Draft} draft @param {Server | null} server @returns {Record<string, any>} */
function bodyOf(draft, server) {
  const text = (/** @type {string} */ name) => String(draft[name]);
  const stdio = draft.type === "stdio";
  /** @type {Record<string, any>} */
  const whole = {
    name: text("name"),
    type: text("type"),
    url: stdio ? "" : text("url"),
    command: stdio ? text("command") : "",
    args: stdio ? listOf(text("args")) : [],
    env: stdio ? valuesOf(text("env")) : {},
    headers: stdio ? {} : valuesOf(text("headers")),
    auth_type: text("auth_type"),
    auth_header: text("auth_header"),
    auth_key: text("auth_key"),
    auth_grant: text("auth_grant"),
    auth_client_id: text("auth_client_id"),
    auth_issuer: text("auth_issuer"),
    auth_scopes: listOf(text("auth_scopes")),
    forward_headers: listOf(text("forward_headers")),
    pin: text("pin"),
    allow_tools: draft.limited ? listOf(text("allow_tools")) : null,
    deny_tools: listOf(text("deny_tools")),
    enabled: draft.enabled,
  };
  if (!server) return whole;
  const was = bodyOf(draftOf(server, null), null);
  return Object.fromEntries(
    Object.entries(whole).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(was[name])),
  );
}

/** `<bb-server-form .data=${{ server, entry }}>`, of a server that is there, or of a new one, as the catalog has it. */
class ServerForm extends View {
  /** @type {Server | null} */
  #server = null;
  /** @type {Draft} */
  #draft = draftOf(null, null);
  #begun = false;
  #busy = false;
  /** @type {ApiError | null} */
  #error = null;

  /** @param {{ server: Server | null, entry: Entry | null }} data */
  set data({ server, entry }) {
    if (this.#begun) return;
    this.#begun = true;
    this.#server = server;
    this.#draft = draftOf(server, entry);
    this.update();
  }

  /** @param {Draft} change */
  #change(change) {
    this.#draft = { ...this.#draft, ...change };
    this.update();
  }

  async #save() {
    this.#busy = true;
    this.#error = null;
    this.update();
    try {
      const body = bodyOf(this.#draft, this.#server);
      const saved = this.#server
        ? await api.patch(`/mcp-servers/${part(this.#server.name)}`, body)
        : await api.post("/mcp-servers", body, { headers: { "idempotency-key": crypto.randomUUID() } });
      this.#draft.auth_key = "";
      this.dispatchEvent(new CustomEvent("changed"));
      go(to`/tools/mcp/${saved.name}`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#error = error;
    } finally {
      this.#busy = false;
      this.update();
    }
    if (this.#error)
      queueMicrotask(() => /** @type {HTMLElement | null} */ (this.querySelector("[aria-invalid=true]"))?.focus());
  }

  draw() {
    const draft = this.#draft;
    const wrong = faults(this.#error, PATHS);
    const stdio = draft.type === "stdio";
    const unchanged = this.#server !== null && !Object.keys(bodyOf(draft, this.#server)).length;
    return html`<form
      class="stack"
      novalidate
      @submit=${(/** @type {SubmitEvent} */ event) => (event.preventDefault(), this.#save())}
    >
      ${wrong[""] ? html`<div class="note fail" role="alert">${wrong[""]}</div>` : ""}
      ${this.#text("name", "Name", wrong, html`<code>name</code>, what agents call it in <code>mcp_servers</code>${this.#server ? "; is fixed" : ""}`, { fixed: this.#server !== null })}
      ${this.#select("type", "Transport", wrong, [...REMOTE, "stdio"], html`<code>type</code>; stdio is a command on the engine's machine`)}
      ${stdio ? this.#command(wrong) : this.#remote(wrong)}
      ${this.#select("pin", "When the server changes a tool", wrong, ["block", "warn", "off"], html`<code>pin</code>: block keeps it from agents until a person approves it`)}
      <details class="more" ?open=${["$.allow_tools", "$.deny_tools", "$.forward_headers"].some((path) => wrong[path])}>
        <summary>Filters and forwarded headers</summary>
        <div class="stack">
          <label class="row">
            <input
              type="checkbox"
              .checked=${live(Boolean(draft.limited))}
              @change=${(/** @type {any} */ event) => this.#change({ limited: event.target.checked })}
            />
            Agents get some of its tools alone
          </label>
          ${draft.limited ? this.#lines("allow_tools", "Tools that agents get", wrong, html`<code>allow_tools</code>, one a line`) : ""}
          ${this.#lines("deny_tools", "Tools that no agent gets", wrong, html`<code>deny_tools</code>, one a line`)}
          ${this.#lines("forward_headers", "Headers of the chat that are passed on", wrong, html`<code>forward_headers</code>, one a line`)}
        </div>
      </details>
      <label class="row">
        <input
          type="checkbox"
          .checked=${live(Boolean(draft.enabled))}
          @change=${(/** @type {any} */ event) => this.#change({ enabled: event.target.checked })}
        />
        Connect to it
      </label>
      <div class="row wrap">
        <button class="btn first" type="submit" ?disabled=${this.#busy || unchanged}>
          ${this.#server ? "Save" : "Add and connect"}
        </button>
        <a class="btn plain" href=${this.#server ? to`/tools/mcp/${this.#server.name}` : "/tools"}>Cancel</a>
      </div>
    </form>`;
  }

  /** @param {Record<string, string>} wrong */
  #command(wrong) {
    return html`
      ${this.#text("command", "Command", wrong, html`<code>command</code>, a program on the engine's machine`)}
      ${this.#lines("args", "Arguments", wrong, html`<code>args</code>, one a line; <code>***</code> keeps a stored one`)}
      ${this.#lines("env", "Environment", wrong, html`<code>env</code>, lines of <code>NAME: value</code>; <code>***</code> keeps a stored value`)}
    `;
  }

  /** @param {Record<string, string>} wrong */
  #remote(wrong) {
    const auth = String(this.#draft.auth_type);
    const keyed = auth === "api_key" || auth === "bearer" || (auth === "oauth2" && this.#draft.auth_client_id);
    return html`
      ${this.#text("url", "Address", wrong, html`<code>url</code>`)}
      ${this.#select("auth_type", "Signs in", wrong, ["none", "bearer", "api_key", "forward_headers", "oauth2"], html`<code>auth_type</code>`)}
      ${auth === "oauth2" ? this.#oauth(wrong) : ""}
      ${auth === "api_key" ? this.#text("auth_header", "Header of the key", wrong, html`<code>auth_header</code>`) : ""}
      ${
        keyed
          ? field(
              auth === "oauth2" ? "Client secret" : "Key",
              "$.auth_key",
              { hint: html`<code>auth_key</code>, sealed on disk`, error: wrong["$.auth_key"] },
              (id, described, invalid) =>
                secret(id, described, {
                  value: String(this.#draft.auth_key),
                  stored: this.#server?.has_auth_key,
                  invalid,
                  write: (auth_key) => this.#change({ auth_key }),
                }),
            )
          : ""
      }
      ${this.#lines("headers", "Headers", wrong, html`<code>headers</code>, lines of <code>Name: value</code>; <code>***</code> keeps a stored value`)}
    `;
  }

  /** @param {Record<string, string>} wrong */
  #oauth(wrong) {
    return html`
      ${this.#select("auth_grant", "Whose account", wrong, ["authorization_code", "client_credentials"], html`<code>auth_grant</code>: each user connects as themselves, or the engine has an account of its own`)}
      ${this.#text("auth_client_id", "Client", wrong, html`<code>auth_client_id</code>, if you have registered one; else the engine registers itself`)}
      ${this.#draft.auth_client_id || this.#draft.auth_issuer ? this.#text("auth_issuer", "Authorization server of the client", wrong, html`<code>auth_issuer</code>`) : ""}
      ${this.#lines("auth_scopes", "Scopes", wrong, html`<code>auth_scopes</code>, one a line, in place of those that the server names`)}
    `;
  }

  /**
   * @param {string} name @param {string} label @param {Record<string, string>} wrong @param {unknown} hint
   * @param {{ fixed?: boolean }} [how]
   */
  #text(name, label, wrong, hint, { fixed = false } = {}) {
    return field(
      label,
      `$.${name}`,
      { hint, error: wrong[`$.${name}`] },
      (id, described, invalid) =>
        html`<input
          id=${id}
          autocomplete="off"
          spellcheck="false"
          ?readonly=${fixed}
          aria-describedby=${described || nothing}
          aria-invalid=${invalid ? "true" : nothing}
          .value=${live(String(this.#draft[name]))}
          @input=${(/** @type {any} */ event) => this.#change({ [name]: event.target.value.trim() })}
        />`,
    );
  }

  /** @param {string} name @param {string} label @param {Record<string, string>} wrong @param {unknown} hint */
  #lines(name, label, wrong, hint) {
    const text = String(this.#draft[name]);
    return field(
      label,
      `$.${name}`,
      { hint, error: wrong[`$.${name}`] },
      (id, described, invalid) =>
        html`<textarea
          id=${id}
          rows=${Math.min(6, Math.max(2, text.split("\n").length))}
          spellcheck="false"
          aria-describedby=${described || nothing}
          aria-invalid=${invalid ? "true" : nothing}
          .value=${live(text)}
          @input=${(/** @type {any} */ event) => this.#change({ [name]: event.target.value })}
        ></textarea>`,
    );
  }

  /** @param {string} name @param {string} label @param {Record<string, string>} wrong @param {string[]} choices @param {unknown} hint */
  #select(name, label, wrong, choices, hint) {
    return field(
      label,
      `$.${name}`,
      { hint, error: wrong[`$.${name}`] },
      (id, described, invalid) =>
        html`<select
          id=${id}
          aria-describedby=${described || nothing}
          aria-invalid=${invalid ? "true" : nothing}
          @change=${(/** @type {any} */ event) => this.#change({ [name]: event.target.value })}
        >
          ${choices.map((one) => html`<option value=${one} .selected=${one === this.#draft[name]}>${one}</option>`)}
        </select>`,
    );
  }
}
customElements.define("bb-server-form", ServerForm);
