import { head } from "../parts/head.js";
import { Page } from "../core/view.js";

export default class Knowledge extends Page {
  get title() {
    return "Knowledge";
  }

  draw() {
    return head(this.title);
  }
}
