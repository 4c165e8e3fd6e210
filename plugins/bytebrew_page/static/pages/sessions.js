// Sessions: the list, whose filters are the URL, and one of them.
import { html } from "../vendor/lit-html/lit-html.js";
import { keyed } from "../vendor/lit-html/directives/keyed.js";
import { Page } from "../core/view.js";
import "./sessions/list.js";
import "./sessions/one.js";

export default class Sessions extends Page {
  get title() {
    return "Sessions";
  }

  draw() {
    const [id] = this.place.rest;
    if (!id) return html`<bb-sessions-list .place=${this.place}></bb-sessions-list>`;
    return keyed(id, html`<bb-session-page .place=${this.place}></bb-session-page>`);
  }
}
