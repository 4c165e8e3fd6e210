// What the engine is made of: its plugins, and its backups.
import { html } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { api } from "../core/api.js";
import { ago, int, whole } from "../core/format.js";
import { Resource } from "../core/resource.js";
import { setQuery } from "../core/router.js";
import { shown } from "../core/text.js";
import { Page } from "../core/view.js";
import { head, time } from "../parts/head.js";
import { state } from "../parts/state.js";
import "./plugins/backups.js";

/** @typedef {import("../../api.ts").Plugin} Plugin */
/** @typedef {import("../../api.ts").PluginList} PluginList */

const OWN = "bytebrew";

export default class Plugins extends Page {
  get title() {
    return "Plugins and backup";
  }

  start() {
    this.plugins = new Resource(this, (signal) => api.get("/plugins", {}, signal));
    this.plugins.reload();
  }

  draw() {
    return html`
      ${head(this.title, { words: "What the engine runs with, and a copy of all that it keeps." })}
      <bb-backups class="stack"></bb-backups>
      <section class="block" aria-labelledby="plugins-title">
        <h2 id="plugins-title">Plugins</h2>
        ${this.plugins?.shown((list) => this.#list(list))}
      </section>
    `;
  }

  /** @param {PluginList} list */
  #list({ data, warnings, contract }) {
    const q = this.query("q").toLowerCase();
    const found = data.filter((one) =>
      `${one.name} ${one.distribution} ${one.hooks.join(" ")}`.toLowerCase().includes(q),
    );
    const off = data.filter((one) => one.state === "disabled").length;
    return html`
      <p class="dim">
        ${int(data.length - off)} loaded${off ? `, ${off} switched off` : ""}. They are written for contract
        ${contract}.
        <code>BYTEBREW_DISABLED_PLUGINS</code> leaves plugins out at the next start.
      </p>
      ${
        warnings.length
          ? html`<div class="note wait">${warnings.map((words) => html`<p>${shown(words)}</p>`)}</div>`
          : ""
      }
      <div class="filters gap">
        <input
          type="search"
          aria-label="Find a plugin"
          placeholder="Find a plugin or a hook"
          .value=${this.query("q")}
          @input=${(/** @type {any} */ event) => setQuery({ q: event.target.value })}
        />
      </div>
      <ul class="plugins">
        ${repeat([...found].sort(first), (one) => one.name, row)}
      </ul>
      ${
        found.length
          ? ""
          : html`<p>
              No plugin is named like “${q}”.
              <button class="btn" type="button" @click=${() => setQuery({ q: "" })}>Clear the search</button>
            </p>`
      }
    `;
  }
}

/** Those that failed first, then those of others, then the engine's own. @param {Plugin} one @param {Plugin} other */
const first = (one, other) => rank(one) - rank(other) || one.name.localeCompare(other.name);

/** @param {Plugin} plugin */
const rank = (plugin) => (plugin.failure ? 0 : plugin.distribution !== OWN ? 1 : plugin.state === "loaded" ? 2 : 3);

/** @param {Plugin} plugin */
const row = (plugin) => html`
  <li>
    <details>
      <summary>
        <b class="item-name">${shown(plugin.name)}</b>
        <span class="meta grow clip">${shown(plugin.distribution)} ${shown(plugin.version)}</span>
        <span class="meta">${counts(plugin)}</span>
        ${condition(plugin)}
      </summary>
      <div class="in">
        ${plugin.failure ? failure(plugin) : ""} ${names("Hooks", plugin.hooks)} ${names("Routes", plugin.routes)}
        ${plugin.state === "disabled" ? html`<p class="dim">It is in <code>BYTEBREW_DISABLED_PLUGINS</code>.</p>` : ""}
      </div>
    </details>
  </li>
`;

/** @param {Plugin} plugin */
function condition(plugin) {
  if (plugin.state === "disabled") return state("cancelled", "switched off");
  return plugin.failure ? state("failed") : state("ok", "loaded");
}

/** @param {Plugin} plugin */
function counts({ hooks, routes }) {
  const parts = [
    [hooks.length, "hook"],
    [routes.length, "route"],
  ].filter(([n]) => n);
  return parts.map(([n, word]) => `${n} ${word}${n === 1 ? "" : "s"}`).join(" · ");
}

/** @param {Plugin} plugin */
function failure({ failure }) {
  if (!failure) return "";
  const often = failure.count > 1 ? `, ${int(failure.count)} times since the start` : "";
  return html`<div class="note fail">
      <b>It failed in ${shown(failure.where)}</b> ${time(failure.at, ago, whole)}${often}.
      <p class="mono">${shown(failure.message)}</p>
    </div>
    <details class="fold">
      <summary>Traceback</summary>
      <pre class="trace" tabindex="0">${shown(failure.traceback)}</pre>
    </details>`;
}

/** @param {string} title @param {string[]} list */
const names = (title, list) =>
  list.length
    ? html`<div>
        <h3>${title}</h3>
        <ul class="codes">
          ${list.map((one) => html`<li><code>${one}</code></li>`)}
        </ul>
      </div>`
    : "";
