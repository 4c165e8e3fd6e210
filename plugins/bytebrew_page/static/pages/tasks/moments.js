// The next times of a schedule that is being written, in the reader's zone and in the schedule's.
import { html } from "../../vendor/lit-html/lit-html.js";
import { api } from "../../core/api.js";
import { ZONE } from "../../core/format.js";
import { View } from "../../core/view.js";

const PATIENCE = 250;

class Moments extends View {
  #cron = "";
  #zone = "";
  /** @type {string[]} */
  #moments = [];
  #wrong = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {[string, string]} timing */
  set timing([cron, zone]) {
    if (cron === this.#cron && zone === this.#zone) return;
    this.#cron = cron;
    this.#zone = zone;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#load(), PATIENCE);
  }

  async #load() {
    const [cron, timezone] = [this.#cron, this.#zone];
    /** @type {string[]} */
    let moments = [];
    let wrong = "";
    try {
      ({ moments } = await api.get("/schedules/preview", { cron, timezone }, this.left));
    } catch (error) {
      wrong = /** @type {Error} */ (error).message;
    }
    if (this.left.aborted || cron !== this.#cron || timezone !== this.#zone) return;
    this.#moments = moments;
    this.#wrong = wrong;
    this.update();
  }

  draw() {
    if (this.#wrong) return html`<p class="meta">${this.#wrong}</p>`;
    if (!this.#moments.length) return html`<p class="meta">The next times will be here.</p>`;
    const other = this.#zone !== ZONE;
    return html`<p class="meta">Next times, in ${ZONE}</p>
      <ol>
        ${this.#moments.map(
          (at) =>
            html`<li>
              ${shownIn(at, ZONE)}
              ${other ? html`<span class="meta">${shownIn(at, this.#zone)} in ${this.#zone}</span>` : ""}
            </li>`,
        )}
      </ol>`;
  }
}
customElements.define("bb-moments", Moments);

/** @param {Record<string, any>} values of the form */
export const moments = ({ cron, timezone }) => html`<bb-moments .timing=${[cron, timezone]}></bb-moments>`;

/** A moment by the clocks of a zone. @param {string} at @param {string} zone */
export const shownIn = (at, zone) =>
  new Intl.DateTimeFormat("en-GB", {
    weekday: "short",
    day: "numeric",
    month: "short",
    hour: "2-digit",
    minute: "2-digit",
    timeZone: zone,
  }).format(new Date(at));
