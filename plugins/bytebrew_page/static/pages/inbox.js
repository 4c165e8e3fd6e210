import { head } from "../parts/head.js";
import { Page } from "../core/view.js";

export default class Inbox extends Page {
  get title() {
    return "Inbox";
  }

  draw() {
    return head(this.title);
  }
}
