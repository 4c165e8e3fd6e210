// Agents: the list, and the editor of one.
import { html } from "../vendor/lit-html/lit-html.js";
import { keyed } from "../vendor/lit-html/directives/keyed.js";
import { Page } from "../core/view.js";
import "./agents/editor.js";
import "./agents/list.js";

export default class Agents extends Page {
  get title() {
    return this.place.rest[0] ?? "Agents";
  }

  draw() {
    const [name] = this.place.rest;
    if (!name) return html`<bb-agent-list></bb-agent-list>`;
    return keyed(name, html`<bb-agent .name=${name} .compare=${this.query("diff")}></bb-agent>`);
  }
}
