import { head } from "../parts/head.js";
import { Page } from "../core/view.js";

export default class Usage extends Page {
  get title() {
    return "Usage and budgets";
  }

  draw() {
    return head(this.title);
  }
}
