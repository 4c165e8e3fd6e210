import { head } from "../parts/head.js";
import { Page } from "../core/view.js";

export default class Config extends Page {
  get title() {
    return "Configuration";
  }

  draw() {
    return head(this.title);
  }
}
