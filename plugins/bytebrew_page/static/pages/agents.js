import { head } from "../parts/head.js";
import { Page } from "../core/view.js";

export default class Agents extends Page {
  get title() {
    return "Agents";
  }

  draw() {
    return head(this.title);
  }
}
