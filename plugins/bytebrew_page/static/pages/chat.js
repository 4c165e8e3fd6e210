import { head } from "../parts/head.js";
import { Page } from "../core/view.js";

export default class Chat extends Page {
  get title() {
    return "Chat";
  }

  draw() {
    return head(this.title);
  }
}
