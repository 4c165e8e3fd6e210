import { head } from "../parts/head.js";
import { Page } from "../core/view.js";

export default class Schemas extends Page {
  get title() {
    return "Schemas";
  }

  draw() {
    return head(this.title);
  }
}
