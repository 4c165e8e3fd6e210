import { head } from "../parts/head.js";
import { Page } from "../core/view.js";

export default class Plugins extends Page {
  get title() {
    return "Plugins and backup";
  }

  draw() {
    return head(this.title);
  }
}
