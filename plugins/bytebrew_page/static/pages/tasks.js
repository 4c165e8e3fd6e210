// Tasks: the board, one task, and what makes tasks by itself or tells of their end.
import { html } from "../vendor/lit-html/lit-html.js";
import { keyed } from "../vendor/lit-html/directives/keyed.js";
import { Page } from "../core/view.js";
import "./tasks/board.js";
import "./tasks/callbacks.js";
import "./tasks/schedules.js";
import "./tasks/task.js";
import "./tasks/webhook.js";
import "./tasks/webhooks.js";

/** @type {Record<string, string>} */
const TITLES = { schedules: "Schedules", webhooks: "Webhooks", callbacks: "Callbacks" };

export default class Tasks extends Page {
  get title() {
    const [word, name] = this.place.rest;
    return name ?? TITLES[word] ?? (word ? "Task" : "Tasks");
  }

  draw() {
    const [word, name] = this.place.rest;
    switch (word) {
      case undefined:
        return html`<bb-board
          .wanted=${Object.fromEntries(["agent", "source", "status", "view"].map((one) => [one, this.query(one)]))}
        ></bb-board>`;
      case "schedules":
        return html`<bb-schedules></bb-schedules>`;
      case "callbacks":
        return html`<bb-callbacks .status=${this.query("status")}></bb-callbacks>`;
      case "webhooks":
        return name ? keyed(name, html`<bb-webhook .name=${name}></bb-webhook>`) : html`<bb-webhooks></bb-webhooks>`;
      default:
        return keyed(word, html`<bb-task .task=${word}></bb-task>`);
    }
  }
}
