import { head } from "../parts/head.js";
import { Page } from "../core/view.js";

export default class Models extends Page {
  get title() {
    return "Models";
  }

  draw() {
    return head(this.title);
  }
}
