// Agents: the list, and the editor of one.
import { html } from "../vendor/lit-html/lit-html.js";
import { keyed } from "../vendor/lit-html/directives/keyed.js";
import { may } from "../core/caller.js";
import { setQuery } from "../core/router.js";
import { Page } from "../core/view.js";
import "./agents/editor.js";
import "./agents/list.js";
import { newAgent } from "./agents/new.js";

export default class Agents extends Page {
  get title() {
    return this.place.rest[0] ?? "Agents";
  }

  start() {
    this.#asked();
  }

  moved() {
    this.update();
    this.#asked();
  }

  /** An address asks for a new agent once. */
  #asked() {
    if (!this.query("new")) return;
    setQuery({ new: null });
    if (may("agents:write")) newAgent();
  }

  draw() {
    const [name] = this.place.rest;
    if (!name) return html`<bb-agent-list></bb-agent-list>`;
    return keyed(name, html`<bb-agent .name=${name} .compare=${this.query("diff")}></bb-agent>`);
  }
}
