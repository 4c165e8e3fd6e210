// Settings: those of the running engine, those of its process, and those of this browser.
import { html } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { api } from "../core/api.js";
import { Resource } from "../core/resource.js";
import { setQuery } from "../core/router.js";
import { shown } from "../core/text.js";
import { Page } from "../core/view.js";
import { bones } from "../parts/bones.js";
import { head } from "../parts/head.js";
import { tag } from "../parts/state.js";
import { table } from "../parts/table.js";
import { thisBrowser } from "./settings/browser.js";
import { GROUPS, groupOf, labelOf } from "./settings/groups.js";
import "./settings/own.js";
import "./settings/setting.js";

/** @typedef {import("../../api.ts").Setting} Setting */
/** @typedef {import("../../api.ts").EnvironmentSetting} EnvironmentSetting */

export default class Settings extends Page {
  get title() {
    return "Settings";
  }

  start() {
    this.settings = new Resource(this, (signal) => api.get("/settings", {}, signal));
    this.environment = new Resource(this, (signal) => api.get("/environment", {}, signal));
    this.settings.reload();
    this.environment.reload();
    this.live(["config"], (change) => change && this.settings?.reload());
  }

  draw() {
    const q = this.query("q");
    return html`
      ${head(this.title, { words: "What changes here counts from the next request on. No restart is needed." })}
      <div class="filters">
        <input
          type="search"
          aria-label="Find a setting"
          placeholder="Find a setting"
          .value=${q}
          @input=${(/** @type {any} */ event) => setQuery({ q: event.target.value })}
        />
      </div>
      ${this.settings?.shown(
        (settings) => this.#groups(settings, q),
        () => bones(["Setting", "Value"]),
      )}
      ${this.#browser(q)} ${this.#process(q)}
    `;
  }

  /** @param {Setting[]} settings @param {string} q */
  #groups(settings, q) {
    const found = settings.filter((one) => matches(q, one.key, one.help, labelOf(one.key)));
    const reload = () => this.settings?.reload();
    const drawn = GROUPS.map((group) => {
      const own = found.filter((one) => groupOf(one.key) === group);
      const custom = group.id === "custom";
      if (!own.length && !(custom && !q)) return "";
      return html`<section class="block" aria-labelledby="group-${group.id}">
        <h2 id="group-${group.id}">${group.title}</h2>
        <p class="dim">${group.words}</p>
        ${repeat(
          own,
          (one) => one.key,
          (one) => html`<bb-setting .setting=${one} @saved=${reload}></bb-setting>`,
        )}
        ${custom ? html`<bb-own-setting @saved=${reload}></bb-own-setting>` : ""}
      </section>`;
    });
    return found.length || !q ? drawn : none(q, "setting of the engine");
  }

  /** @param {string} q */
  #browser(q) {
    if (!matches(q, "theme light dark single keys keyboard this browser")) return "";
    return html`<section class="block" aria-labelledby="browser-title">
      <h2 id="browser-title">This browser</h2>
      <p class="dim">What you prefer is kept here, and nowhere else.</p>
      ${thisBrowser(() => this.update())}
    </section>`;
  }

  /** @param {string} q */
  #process(q) {
    return html`<section class="block" aria-labelledby="environment-title">
      <h2 id="environment-title">The process</h2>
      <p class="dim">
        Read from the environment when the engine starts. To change one, set its variable and start again.
      </p>
      ${this.environment?.shown(
        (rows) => {
          const found = /** @type {EnvironmentSetting[]} */ (rows).filter((row) => matches(q, row.name, row.help));
          if (!found.length) return none(q, "variable");
          const [set, rest] = [found.filter((row) => row.source), found.filter((row) => !row.source)];
          return html`
            ${set.length ? variables("Set", set) : html`<p class="dim">None of these is set.</p>`}
            ${
              rest.length
                ? html`<details class="fold" ?open=${Boolean(q)}>
                    <summary>${rest.length} at their defaults</summary>
                    ${variables("At their defaults", rest)}
                  </details>`
                : ""
            }
          `;
        },
        () => bones(["Variable", "Value", "Default", "Meaning"]),
      )}
    </section>`;
  }
}

/** @param {string} q @param {...string} texts */
const matches = (q, ...texts) => texts.some((text) => text.toLowerCase().includes(q.trim().toLowerCase()));

/** @param {string} q @param {string} what */
const none = (q, what) =>
  html`<p>
    No ${what} is like “${q}”.
    <button class="btn" type="button" @click=${() => setQuery({ q: "" })}>Clear the search</button>
  </p>`;

/** @param {string} caption @param {EnvironmentSetting[]} rows */
const variables = (caption, rows) => table(caption, COLUMNS, rows, (row) => row.name);

/** @type {import("../parts/table.js").Column<EnvironmentSetting>[]} */
const COLUMNS = [
  {
    title: "Variable",
    cell: (row) =>
      html`<code class="variable">${row.name}</code>
        ${row.source && row.source !== row.name ? tag(`from ${row.source}`) : ""}`,
  },
  { title: "Value", cell: value },
  {
    title: "Default",
    label: true,
    cell: (row) => (row.default ? html`<code class="value">${row.default}</code>` : ""),
  },
  { title: "Meaning", cell: (row) => html`<span class="dim">${row.help}</span>` },
];

/** @param {EnvironmentSetting} row */
function value(row) {
  if (row.value === null) return row.source ? tag("set, never shown") : html`<span class="dim">not set</span>`;
  if (!row.source) return html`<span class="dim">default</span>`;
  return html`<code class="value">${shown(row.value)}</code>`;
}
