import { head } from "../parts/head.js";
import { Page } from "../core/view.js";

export default class Settings extends Page {
  get title() {
    return "Settings";
  }

  draw() {
    return head(this.title);
  }
}
