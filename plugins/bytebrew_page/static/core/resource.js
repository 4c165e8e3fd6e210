// Something that is loaded, and loaded again: its value, its error and its age, so that a page can draw all states.
import { html } from "../vendor/lit-html/lit-html.js";
import { clock } from "./format.js";

const PATIENCE = 150;

/** @template T */
export class Resource {
  /** @type {T | undefined} */
  value = undefined;
  /** @type {Error | null} */
  error = null;
  /** Whether it takes so long that the reader should see that something comes. */
  slow = false;
  /** @type {Date | null} */
  at = null;
  #run = 0;

  /**
   * @param {{ update(): void, left: AbortSignal }} view what draws it
   * @param {(signal: AbortSignal) => Promise<T>} load
   */
  constructor(view, load) {
    this.view = view;
    this.load = load;
  }

  /** Loads it; of several loads the last alone counts. What was there stays until then. */
  async reload() {
    const run = ++this.#run;
    const timer = setTimeout(() => {
      this.slow = true;
      this.view.update();
    }, PATIENCE);
    try {
      const value = await this.load(this.view.left);
      if (run !== this.#run) return;
      this.value = value;
      this.error = null;
      this.at = new Date();
    } catch (error) {
      if (run !== this.#run || this.view.left.aborted) return;
      this.error = /** @type {Error} */ (error);
    } finally {
      clearTimeout(timer);
      if (run === this.#run) {
        this.slow = false;
        this.view.update();
      }
    }
  }

  /**
   * Draws it: bars while it comes, the error with a way to try again, the value with its age if that is an old one.
   * @param {(value: T) => unknown} draw
   * @param {() => unknown} [bones]
   */
  shown(draw, bones = () => html`<p class="meta">Loading</p>`) {
    const wrong = this.error && failed(this.error, this.at, () => this.reload());
    if (this.value !== undefined) return html`${wrong}${draw(this.value)}`;
    return wrong ?? (this.slow ? bones() : "");
  }
}

const NO_ROUTE = "There is nothing at /api/v1/";

/** An error where what failed would stand. @param {Error} error @param {Date | null} at @param {() => void} again */
export function failed(error, at, again) {
  const code = /** @type {any} */ (error).code;
  if (error.message.startsWith(NO_ROUTE))
    return html`<div class="note">
      This engine runs without the plugin for this. <a href="/plugins">Plugins</a> shows which ones are off.
    </div>`;
  return html`<div class="note fail" role="alert">
    ${error.message} ${code ? html`<code>${code}</code>` : ""}
    ${at ? html`<span class="meta">What you see is from ${clock(at.toISOString())}.</span>` : ""}
    <button class="btn" type="button" @click=${again}>Try again</button>
  </div>`;
}
