// Knowledge: the bases, and the files and the search of one.
import { html } from "../vendor/lit-html/lit-html.js";
import { keyed } from "../vendor/lit-html/directives/keyed.js";
import { Page } from "../core/view.js";
import "./knowledge/base.js";
import "./knowledge/list.js";

export default class Knowledge extends Page {
  get title() {
    return this.place.rest[0] ?? "Knowledge";
  }

  draw() {
    const [name] = this.place.rest;
    if (!name) return html`<bb-bases></bb-bases>`;
    const wanted = { q: this.query("q"), threshold: this.query("threshold"), file: this.query("file") };
    return keyed(name, html`<bb-base .name=${name} .wanted=${wanted}></bb-base>`);
  }
}
