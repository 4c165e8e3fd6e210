import { head } from "../parts/head.js";
import { Page } from "../core/view.js";

export default class Keys extends Page {
  get title() {
    return "API keys";
  }

  draw() {
    return head(this.title);
  }
}
