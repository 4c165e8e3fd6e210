import { head } from "../parts/head.js";
import { Page } from "../core/view.js";

export default class Tasks extends Page {
  get title() {
    return "Tasks";
  }

  draw() {
    return head(this.title);
  }
}
