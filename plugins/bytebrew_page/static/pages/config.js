// The configuration as one file: what it is now, and a file that is to change it, as a plan before anything changes.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { Page } from "../core/view.js";
import { head } from "../parts/head.js";
import "./config/export.js";
import "./config/import.js";

/** @type {[string, string][]} */
const TABS = [
  ["export", "Export"],
  ["import", "Import"],
];

export default class Config extends Page {
  get title() {
    return "Configuration";
  }

  draw() {
    const tab = this.query("tab") === "import" ? "import" : "export";
    return html`
      ${head(this.title, {
        words: "Agents, models, schemas, tools and more as one file, to keep in a repository and to bring elsewhere.",
        acts: html`<nav class="seg" aria-label="Views of the configuration">
          ${TABS.map(
            ([name, words]) =>
              html`<a href="/config?tab=${name}" aria-current=${name === tab ? "page" : nothing}>${words}</a>`,
          )}
        </nav>`,
      })}
      ${
        tab === "import"
          ? html`<bb-config-import class="stack"></bb-config-import>`
          : html`<bb-config-export class="stack"></bb-config-export>`
      }
    `;
  }
}
