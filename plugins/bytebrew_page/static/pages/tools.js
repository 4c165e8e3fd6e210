import { head } from "../parts/head.js";
import { Page } from "../core/view.js";

export default class Tools extends Page {
  get title() {
    return "Tools";
  }

  draw() {
    return head(this.title);
  }
}
