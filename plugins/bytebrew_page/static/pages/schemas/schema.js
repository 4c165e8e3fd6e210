// One schema: who answers, whom that asks, who may talk to it, and how.
import { html } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { ApiError, api, request } from "../../core/api.js";
import { may } from "../../core/caller.js";
import { ago, whole } from "../../core/format.js";
import { Resource } from "../../core/resource.js";
import { go, to } from "../../core/router.js";
import { say } from "../../core/say.js";
import { shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { sure } from "../../parts/dialog.js";
import { field } from "../../parts/field.js";
import { time } from "../../parts/head.js";
import "../../parts/history.js";
import { toast } from "../../parts/toast.js";
import { connect } from "./connect.js";
import { edgesOf, graph } from "./graph.js";

/** @typedef {import("../../../api.ts").Schema} Shape */
/** @typedef {import("../../../api.ts").AgentRow} Row */
/** @typedef {import("../../../api.ts").Token} Token */

class Schema extends View {
  name = "";
  #connect = "";
  /** Is called after a change that a list of schemas shows. @type {() => void} */
  changed = () => {};
  #busy = false;
  /** @type {Error | null} */
  #wrong = null;
  #from = "";
  #target = "";
  /** What was sent and is not confirmed. @type {Partial<Shape>} */
  #sent = {};
  /** The description while it is typed, on top of the version with the tag. @type {{ text: string, tag: string } | null} */
  #typed = null;

  /** @type {Resource<{ tag: string, schema: Shape, owner: import("../../../api.ts").ManagedBy | null }>} */
  #schema = new Resource(this, async (signal) => {
    const path = to`/schemas/${this.name}`;
    const [response, versions] = await Promise.all([
      request("GET", path, { signal }),
      api.get(`${path}/versions`, { limit: 1 }, signal),
    ]);
    return { tag: response.headers.get("etag") ?? "", schema: await response.json(), owner: versions.managed_by };
  });
  /** @type {Resource<Row[]>} */
  #agents = new Resource(this, (signal) => api.get("/agents", {}, signal));
  /** @type {Resource<Token[]>} */
  #tokens = new Resource(this, (signal) => api.get("/auth/tokens", {}, signal));

  /** The way to connect that is open. @param {string} name */
  set connect(name) {
    this.#connect = name;
    this.update();
  }

  start() {
    this.#reload();
    this.live(["config"], () => this.#busy || this.#reload());
  }

  #reload() {
    if (may("agents:read")) this.#agents.reload();
    if (may("admin")) this.#tokens.reload();
    return this.#schema.reload();
  }

  /**
   * Sends changes; if somebody was faster, their version is shown.
   * @param {Record<string, any>} changes @param {string} words @param {string} [seen] the version that was changed
   */
  async #put(changes, words, seen) {
    const { tag, schema } = this.#schema.value ?? { tag: "", schema: null };
    if (!schema) return;
    this.#busy = true;
    this.#sent = changes;
    this.#wrong = null;
    this.update();
    try {
      await api.put(to`/schemas/${this.name}`, changes, { headers: { "if-match": seen ?? tag } });
      say(words);
      const before = Object.fromEntries(Object.keys(changes).map((name) => [name, undo(schema, name)]));
      toast(words, () => this.#put(before, "Undone"));
    } catch (error) {
      const late = error instanceof ApiError && error.status === 412;
      this.#wrong = late
        ? new ApiError(412, { message: "Somebody has changed it meanwhile. This is what it is now: change it again." })
        : /** @type {Error} */ (error);
    }
    await this.#schema.reload();
    this.#busy = false;
    this.#sent = {};
    this.#typed = null;
    this.changed();
    this.update();
  }

  async #remove() {
    if (
      !(await sure(`Delete schema ${this.name}`, html`<p>Its sessions stay readable; nobody can go on with them.</p>`))
    )
      return;
    try {
      await api.delete(to`/schemas/${this.name}`, { headers: { "if-match": this.#schema.value?.tag ?? "*" } });
      toast(`Deleted ${this.name}`);
      go("/schemas");
      this.changed();
    } catch (error) {
      this.#wrong = /** @type {Error} */ (error);
      this.update();
    }
  }

  draw() {
    return this.#schema.shown(({ tag, schema, owner }) => this.#whole(tag, { ...schema, ...this.#sent }, owner));
  }

  /** @param {string} tag @param {Shape} schema @param {import("../../../api.ts").ManagedBy | null} owner */
  #whole(tag, schema, owner) {
    const writable = may("schemas:write");
    const rows = this.#agents.value ?? [];
    const { agents, edges } = edgesOf(schema, rows);
    return html`
      <header class="row wrap">
        <div class="grow">
          <h2 tabindex="-1">${shown(schema.name)}</h2>
          <p class="meta">
            ${
              schema.chat_last_fired_at
                ? html`last message ${time(schema.chat_last_fired_at, ago, whole)}`
                : "no message yet"
            }
          </p>
        </div>
        ${
          schema.chat_enabled
            ? html`<a class="btn" href=${`/chat?schema=${encodeURIComponent(schema.name)}`}>Try in chat</a>`
            : ""
        }
        ${writable ? html`<button class="btn plain" type="button" @click=${() => this.#remove()}>Delete</button>` : ""}
      </header>
      ${
        owner
          ? html`<div class="note">
              From ${shown(owner.file)}, line ${owner.line}. You may change it here; the next start and each reload of
              that file set it again.
            </div>`
          : ""
      }
      ${this.#wrong ? html`<div class="note fail" role="alert">${shown(this.#wrong.message)}</div>` : ""}
      <section class="part" aria-label="Agents">
        <header>
          <div class="grow">
            <h3>Agents</h3>
            <p>
              ${
                schema.relations.length
                  ? "Whom each may ask in this schema."
                  : "It has no relations, so each agent may ask whom its own form names."
              }
            </p>
          </div>
        </header>
        ${graph(schema.entry_agent, agents, edges, rows)} ${writable ? this.#relations(schema, rows) : ""}
      </section>
      <section class="part" aria-label="Chat">
        <header>
          <div class="grow">
            <h3>Chat</h3>
            <p>${this.#opens(schema)}</p>
          </div>
        </header>
        ${this.#settings(tag, schema, rows, writable)}
      </section>
      <section class="part" aria-label="Connect">
        <header>
          <div class="grow">
            <h3>Connect</h3>
            <p>Each line runs as it is, with a key in $BYTEBREW_TOKEN.</p>
          </div>
        </header>
        <div class="stack">${connect(schema.name, this.#connect)}</div>
      </section>
      <section class="part" aria-label="Versions">
        <h3>Versions</h3>
        <bb-history
          .path=${to`/schemas/${this.name}`}
          .stamp=${tag}
          .writable=${writable}
          @rolledback=${() => (this.#schema.reload(), this.changed())}
        ></bb-history>
      </section>
    `;
  }

  /** Whom the switch lets in. @param {Shape} schema */
  #opens(schema) {
    if (!schema.chat_enabled) return "Nobody can talk to it: every message is answered with chat_disabled.";
    const tokens = this.#tokens.value;
    if (!tokens) return "Whoever has the scope chat, and a key that is bound to this schema or to none.";
    const able = tokens.filter(
      (one) =>
        one.scopes.some((scope) => ["chat", "admin", "public"].includes(scope)) &&
        (!one.schemas || one.schemas.includes(schema.name)),
    );
    if (!able.length) return html`Signed-in people with the scope chat. No key can talk to it yet.`;
    const names = able
      .slice(0, 4)
      .map((one) => one.name)
      .join(", ");
    const more = able.length > 4 ? ` and ${able.length - 4} more` : "";
    const keys = able.length === 1 ? "this key" : `these ${able.length} keys`;
    return html`Signed-in people with the scope chat, and <a href="/keys">${keys}</a>: ${shown(names + more)}.`;
  }

  /** @param {string} tag @param {Shape} schema @param {Row[]} rows @param {boolean} writable */
  #settings(tag, schema, rows, writable) {
    const entries = [...new Set([schema.entry_agent, ...rows.map((row) => row.name)])];
    return html`<fieldset class="settings" ?disabled=${!writable || this.#busy}>
      <legend class="sr">Chat of ${schema.name}</legend>
      ${this.#switch(schema, "chat_enabled", "Chat is on", "chat_enabled: its sessions take messages")}
      ${this.#switch(schema, "client_tools", "Clients may bring tools", "client_tools: a chat may declare tools that its client runs")}
      <div class="grid2">
        ${this.#choice(
          schema,
          "entry_agent",
          "Who answers first",
          "entry_agent",
          entries.map((name) => [name, name]),
        )}
        ${this.#choice(schema, "view", "What chats show", "view", [
          ["full", "full: tools and thinking too"],
          ["public", "public: answers alone"],
        ])}
        ${this.#choice(
          schema,
          "approvals",
          "Questions to a person",
          "approvals: for protocols without a place for them",
          [
            ["text", "text: as text of the answer"],
            ["client_tool", "client_tool: as a call of approve_tool_call"],
          ],
        )}
      </div>
      ${field(
        "Description",
        "$.description",
        { hint: "description: for people, and for assistants that see it as a tool" },
        (id, described) =>
          html`<input
            id=${id}
            aria-describedby=${described}
            .value=${live(this.#typed?.text ?? schema.description)}
            @input=${(/** @type {Event} */ event) =>
              (this.#typed = { text: valueOf(event), tag: this.#typed?.tag ?? tag })}
            @change=${(/** @type {Event} */ event) =>
              this.#put({ description: valueOf(event) }, "Description saved", this.#typed?.tag)}
          />`,
      )}
    </fieldset>`;
  }

  /** @param {Shape} schema @param {"chat_enabled" | "client_tools"} name @param {string} label @param {string} hint */
  #switch(schema, name, label, hint) {
    return html`<div>
      <label class="row">
        <input
          type="checkbox"
          role="switch"
          .checked=${live(schema[name])}
          @change=${(/** @type {Event} */ event) => {
            const on = /** @type {HTMLInputElement} */ (event.target).checked;
            this.#put({ [name]: on }, `${label}: ${on ? "yes" : "no"}`);
          }}
        />
        <b>${label}</b>
      </label>
      <p class="hint">${hint}</p>
    </div>`;
  }

  /** @param {Shape} schema @param {"entry_agent" | "view" | "approvals"} name @param {string} label @param {string} hint @param {[string, string][]} options */
  #choice(schema, name, label, hint, options) {
    return field(
      label,
      `$.${name}`,
      { hint },
      (id, described) =>
        html`<select
          id=${id}
          aria-describedby=${described}
          @change=${(/** @type {Event} */ event) => this.#put({ [name]: valueOf(event) }, `${label}: ${valueOf(event)}`)}
        >
          ${options.map(
            ([value, words]) =>
              html`<option value=${value} .selected=${live(value === schema[name])}>${words}</option>`,
          )}
        </select>`,
    );
  }

  /** The relations as a list to change. @param {Shape} schema @param {Row[]} rows */
  #relations(schema, rows) {
    const plain = schema.relations.map(({ source, target, config }) => ({ source, target, config }));
    const names = rows.map((row) => row.name);
    const source = this.#from || schema.entry_agent;
    const targets = names.filter(
      (name) => name !== source && !plain.some((one) => one.source === source && one.target === name),
    );
    const target = targets.includes(this.#target) ? this.#target : (targets[0] ?? "");
    const select = (
      /** @type {string} */ label,
      /** @type {string[]} */ options,
      /** @type {string} */ value,
      /** @type {(v: string) => void} */ set,
    ) =>
      html`<select aria-label=${label} @change=${(/** @type {Event} */ event) => (set(valueOf(event)), this.update())}>
        ${options.map((one) => html`<option value=${one} .selected=${live(one === value)}>${one}</option>`)}
      </select>`;
    return html`<details class="relations">
      <summary>${plain.length ? `Change the ${plain.length} relations` : "Add relations"}</summary>
      <ul class="pick">
        ${plain.map(
          (one, n) =>
            html`<li class="row">
              <span class="grow">${shown(one.source)} may ask ${shown(one.target)}</span>
              <button
                class="btn plain"
                type="button"
                ?disabled=${this.#busy}
                @click=${() => this.#put({ relations: plain.toSpliced(n, 1) }, "Relation removed")}
              >
                Remove<span class="sr"> ${one.source} to ${one.target}</span>
              </button>
            </li>`,
        )}
      </ul>
      <div class="row wrap add">
        ${select("Who asks", names, source, (value) => (this.#from = value))} <span>may ask</span>
        ${select("Who is asked", targets, target, (value) => (this.#target = value))}
        <button
          class="btn"
          type="button"
          ?disabled=${this.#busy || !target}
          @click=${() => this.#put({ relations: [...plain, { source, target }] }, "Relation added")}
        >
          Add
        </button>
      </div>
      <p class="meta">An agent asks only whom its own form names too, under “May ask”.</p>
    </details>`;
  }
}
customElements.define("bb-schema", Schema);

/** @param {Event} event */
const valueOf = (event) => /** @type {HTMLInputElement | HTMLSelectElement} */ (event.target).value;

/** A field as a PUT takes it back. @param {Shape} schema @param {string} name */
function undo(schema, name) {
  if (name === "relations") return schema.relations.map(({ source, target, config }) => ({ source, target, config }));
  return schema[/** @type {keyof Shape} */ (name)];
}
