import { head } from "../parts/head.js";
import { Page } from "../core/view.js";

export default class Start extends Page {
  get title() {
    return "First run";
  }

  draw() {
    return head(this.title);
  }
}
