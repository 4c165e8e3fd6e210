// One tool of an MCP server: what it says now beside what was approved, and the decision about it.
import { html } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { ApiError, api, part } from "../../core/api.js";
import { may } from "../../core/caller.js";
import { ago, clock, whole } from "../../core/format.js";
import { to } from "../../core/router.js";
import { say } from "../../core/say.js";
import { json, shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { code } from "../../parts/code.js";
import "../../parts/diff.js";
import { time } from "../../parts/head.js";
import { risk, state } from "../../parts/state.js";
import { asText, facts } from "./drift.js";

/** @typedef {import("../../../api.ts").Server} Server */
/** @typedef {import("../../../api.ts").ShownTool} ShownTool */

/** The beginning of a digest, enough to compare it by eye. @param {string} digest */
const brief = (digest) => digest.slice(0, 12);

/** `<bb-tool-definition .data=${{ server, tool }}>`; it dispatches `changed` with the server after a decision. */
class ToolDefinition extends View {
  /** @type {Server | null} */
  #server = null;
  /** @type {ShownTool | null} */
  #tool = null;
  #read = false;
  #busy = false;
  /** The definition was changed while it was looked at. */
  #again = false;
  /** @type {ApiError | null} */
  #error = null;

  /** @param {{ server: Server, tool: ShownTool }} data */
  set data({ server, tool }) {
    const was = this.#tool;
    if (was && was.digest !== tool.digest) {
      this.#read = false;
      this.#again = was.state !== "available";
    }
    [this.#server, this.#tool] = [server, tool];
    this.update();
  }

  /** @param {"approve" | "withhold"} act */
  async #decide(act) {
    const [server, tool] = [this.#server, this.#tool];
    if (!server || !tool) return;
    this.#busy = true;
    this.#error = null;
    this.#again = false;
    this.update();
    /** @type {Server | null} */
    let now = null;
    try {
      const path = `/mcp-servers/${part(server.name)}/tools/${tool.name.split("/").map(part).join("/")}/${act}`;
      now = await api.post(path, { digest: tool.digest });
      this.#read = false;
      say(act === "approve" ? `${tool.name} is approved` : `${tool.name} is kept withheld`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#error = error;
    } finally {
      this.#busy = false;
      this.update();
      this.dispatchEvent(new CustomEvent("changed", { detail: now }));
    }
    queueMicrotask(() => /** @type {HTMLElement | null} */ (this.querySelector("h2"))?.focus());
  }

  draw() {
    const tool = this.#tool;
    const server = this.#server;
    if (!tool || !server) return "";
    const odd = tool.state !== "available";
    return html`<section class="stack" aria-label="Tool ${tool.name}">
      <div class="row wrap">
        <h2 class="mono grow" tabindex="-1">${shown(tool.name)}</h2>
        ${risk(tool.security_zone)} ${this.#state(tool)}
      </div>
      ${
        this.#again
          ? html`<div class="note wait" role="alert">
              The server has changed this tool while you looked at it. Read it again.
            </div>`
          : ""
      }
      ${odd ? this.#drift(server, tool) : this.#plain(tool)}
    </section>`;
  }

  /** @param {ShownTool} tool */
  #state(tool) {
    const since = tool.changed_at ?? tool.first_seen_at;
    const when = since ? html` ${time(since, ago, whole)}` : "";
    if (tool.state === "available") return state("ok", "available");
    if (tool.withheld) return state("withheld", "kept withheld");
    const words = tool.state === "new" ? html`new since${when}` : html`changed${when}`;
    return state(tool.state === "changed" ? "alert" : "withheld", words);
  }

  /** @param {Server} server @param {ShownTool} tool */
  #drift(server, tool) {
    const found = facts(tool);
    const was = tool.approved;
    return html`
      ${this.#note(server, tool)}
      ${
        found.length
          ? html`<ul class="checks" aria-label="What has changed">
              ${found.map(
                (one) =>
                  html`<li>
                    ${state("alert", "")}<span><b>${shown(one.head)}</b>${shown(one.rest)}</span>
                  </li>`,
              )}
            </ul>`
          : ""
      }
      ${
        was && typeof was.description === "string"
          ? html`<bb-diff
              .was=${{
                title: "Approved",
                note: `${was.at ? `${clock(was.at)}, by ${was.by}` : "as first seen"} · ${brief(was.digest)}`,
                text: asText(/** @type {any} */ (was)),
              }}
              .now=${{
                title: "Now",
                note: `${tool.changed_at ? `${clock(tool.changed_at)} · ` : ""}${brief(tool.digest)}`,
                text: asText(tool),
              }}
            ></bb-diff>`
          : this.#definition(tool)
      }
      ${
        was && typeof was.description !== "string"
          ? html`<p class="meta">What was approved is known by its digest alone: <code>${brief(was.digest)}</code></p>`
          : ""
      }
      ${may("mcp:write") ? this.#form(tool) : html`<p class="meta">Deciding needs the scope <code>mcp:write</code>.</p>`}
    `;
  }

  /** @param {Server} server @param {ShownTool} tool */
  #note(server, tool) {
    const agents = tool.agents.map((name, n) => html`${n ? ", " : ""}<a href=${to`/agents/${name}`}>${name}</a>`);
    const who = agents.length ? html` It is for ${agents}.` : " No agent is to have it.";
    if (tool.state === "changed")
      return html`<div class="note wait">
        <b>Agents have this tool as it is now</b>, because the server's <code>pin</code> is <code>warn</code>.${who}
      </div>`;
    if (tool.withheld)
      return html`<div class="note hold">
        <b>Agents do not have this tool.</b> ${tool.withheld.by} has kept it withheld
        ${time(tool.withheld.at, ago, whole)}. It waits again if the server changes it.${who}
      </div>`;
    return html`<div class="note hold">
      <b>Agents do not have this tool until someone approves what it says now.</b>${who}
    </div>`;
  }

  /** @param {ShownTool} tool */
  #form(tool) {
    const gone = this.#error?.status === 409 ? "The server has changed the tool again. Read it once more." : "";
    return html`<form
      class="stack"
      @submit=${(/** @type {SubmitEvent} */ event) => (event.preventDefault(), this.#read && this.#decide("approve"))}
    >
      ${this.#error ? html`<div class="note fail" role="alert">${gone || this.#error.message}</div>` : ""}
      <label class="row">
        <input
          type="checkbox"
          .checked=${live(this.#read)}
          @change=${(/** @type {any} */ event) => ((this.#read = event.target.checked), this.update())}
        />
        <span>I have read what ${shown(tool.name)} says now</span>
      </label>
      <div class="row wrap">
        <button class="btn first" type="submit" ?disabled=${!this.#read || this.#busy}>Approve this definition</button>
        ${
          tool.state !== "changed" && !tool.withheld
            ? html`<button class="btn" type="button" ?disabled=${this.#busy} @click=${() => this.#decide("withhold")}>
                Keep withheld
              </button>`
            : ""
        }
        <span class="meta">Both name the digest: if the server changes it meanwhile, they are refused.</span>
      </div>
    </form>`;
  }

  /** @param {ShownTool} tool */
  #plain(tool) {
    const agents = tool.agents.map((name, n) => html`${n ? ", " : ""}<a href=${to`/agents/${name}`}>${name}</a>`);
    return html`
      <dl class="facts start">
        <dt>Agents</dt>
        <dd>${agents.length ? agents : "none"}</dd>
        <dt>Known since</dt>
        <dd>${time(tool.first_seen_at, ago, whole)}</dd>
        <dt>Changed</dt>
        <dd>${tool.changed_at ? time(tool.changed_at, ago, whole) : "never"}</dd>
        <dt>Digest</dt>
        <dd class="mono">${brief(tool.digest)}</dd>
      </dl>
      ${this.#definition(tool)}
    `;
  }

  /** @param {ShownTool} tool */
  #definition(tool) {
    const { input_schema, annotations } = tool;
    const rest = annotations ? { input_schema, annotations } : { input_schema };
    return html`
      ${tool.description ? html`<p class="any pre">${shown(tool.description)}</p>` : html`<p class="dim">It says nothing of itself.</p>`}
      ${code("Definition", json(rest), JSON.stringify(rest, null, 2))}
    `;
  }
}
customElements.define("bb-tool-definition", ToolDefinition);
