import { head } from "../parts/head.js";
import { Page } from "../core/view.js";

export default class Sessions extends Page {
  get title() {
    return "Sessions";
  }

  draw() {
    return head(this.title);
  }
}
