import { head } from "../parts/head.js";
import { Page } from "../core/view.js";

export default class Audit extends Page {
  get title() {
    return "Audit";
  }

  draw() {
    return head(this.title);
  }
}
