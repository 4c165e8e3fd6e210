// Audit: who changed what, which tools were called, and whether the record is whole.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { keyed } from "../vendor/lit-html/directives/keyed.js";
import { api } from "../core/api.js";
import { int, whole } from "../core/format.js";
import { to } from "../core/router.js";
import { Page } from "../core/view.js";
import { head } from "../parts/head.js";
import { download } from "./audit/download.js";
import "./audit/calls.js";
import "./audit/changes.js";

/** @typedef {import("../../api.ts").Verified} Verified */

/** The filters of each list, as the API has them. @type {Record<string, string[]>} */
const FILTERS = {
  changes: ["actor_type", "action", "resource", "from", "to"],
  calls: ["agent", "tool", "status", "user_id", "session_id", "from", "to"],
};
const PATHS = { changes: "/audit", calls: "/audit/tool-calls" };

export default class Audit extends Page {
  /** @type {Verified | null} */
  #verified = null;
  #busy = "";
  #error = "";

  get title() {
    return "Audit";
  }

  /** @returns {"changes" | "calls"} */
  get #tab() {
    return this.query("tab") === "calls" ? "calls" : "changes";
  }

  get #wanted() {
    return Object.fromEntries(FILTERS[this.#tab].map((name) => [name, this.query(name)]));
  }

  /** @param {string} what @param {() => Promise<any>} act */
  async #do(what, act) {
    this.#busy = what;
    this.#error = "";
    this.update();
    try {
      await act();
    } catch (error) {
      this.#error = /** @type {Error} */ (error).message;
    }
    this.#busy = "";
    this.update();
  }

  #check() {
    this.#verified = null;
    this.#do("check", async () => (this.#verified = await api.get("/audit/verify", {}, this.left)));
  }

  #download() {
    const name = `audit-${this.#tab}.ndjson`;
    this.#do("download", () => download(PATHS[this.#tab], this.#wanted, name, this.left));
  }

  draw() {
    const tab = this.#tab;
    return html`
      ${head("Audit", {
        words: "Who changed what, and which tools were called. Each change is bound to the one before it.",
        acts: html`<button class="btn" type="button" ?disabled=${this.#busy === "check"} @click=${this.#check}>
            ${this.#busy === "check" ? "Reading all entries" : "Check the chain"}
          </button>
          <button class="btn" type="button" ?disabled=${this.#busy === "download"} @click=${this.#download}>
            ${this.#busy === "download" ? "Downloading" : "Download NDJSON"}
          </button>`,
      })}
      ${this.#error ? html`<div class="note fail" role="alert">${this.#error}</div>` : nothing}
      ${this.#verified ? verdict(this.#verified) : nothing}
      <nav class="seg" aria-label="Lists">
        <a href="/audit" aria-current=${tab === "changes" ? "page" : nothing}>Changes</a>
        <a href=${`${to`/audit`}?tab=calls`} aria-current=${tab === "calls" ? "page" : nothing}>Tool calls</a>
      </nav>
      ${
        tab === "calls"
          ? keyed(
              "calls",
              html`<bb-audit-calls .wanted=${this.#wanted} .entry=${this.query("entry")}></bb-audit-calls>`,
            )
          : keyed(
              "changes",
              html`<bb-audit-changes .wanted=${this.#wanted} .entry=${this.query("entry")}></bb-audit-changes>`,
            )
      }
    `;
  }
}

/** What a check of the chain has found. @param {Verified} found */
function verdict({ intact, entries, masked, since, last, hash, broken }) {
  if (broken) {
    return html`<div class="note fail" role="alert">
      The chain is broken after ${int(entries)} entries.
      ${broken.entry ? html`Entry ${broken.entry} ` : nothing}${broken.reason}.
    </div>`;
  }
  return html`<div class="note ok" role="status">
    ${int(entries)} entries, unbroken${since ? ` since ${whole(since)}` : ""}${masked ? `, ${int(masked)} masked` : ""}.
    ${intact && last ? html`The last is ${last}, with the hash <code>${hash.slice(0, 16)}</code>.` : nothing}
  </div>`;
}
