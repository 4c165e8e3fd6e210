// The base of elements that draw themselves: pages, and parts with a state of their own.
import { render } from "../vendor/lit-html/lit-html.js";
import { listen } from "./feed.js";

/** An element in light DOM; `update` asks for a drawing, which comes once for all changes of a moment. */
export class View extends HTMLElement {
  #left = new AbortController();
  #due = false;

  connectedCallback() {
    if (this.#left.signal.aborted) this.#left = new AbortController();
    this.start();
    this.update();
  }

  disconnectedCallback() {
    this.#left.abort();
  }

  /** Is aborted when the element leaves the page: everything that an element begins ends with it. */
  get left() {
    return this.#left.signal;
  }

  /** Begins what the element needs; called each time it comes to the page. */
  start() {}

  /** What the element shows. @returns {unknown} */
  draw() {
    return undefined;
  }

  /** Called after each drawing. */
  drawn() {}

  update() {
    if (this.#due) return;
    this.#due = true;
    queueMicrotask(() => {
      this.#due = false;
      if (!this.isConnected) return;
      render(this.draw(), this, { host: this });
      this.drawn();
    });
  }

  /**
   * Calls back on changes in the engine; with null where some may have been missed.
   * @param {string[]} topics
   * @param {(change: import("./feed.js").Change | null) => void} run
   */
  live(topics, run) {
    listen(topics, run, this.left);
  }

  /** Calls back every so often while the element is shown. @param {number} delay @param {() => void} run */
  every(delay, run) {
    const timer = setInterval(() => document.hidden || run(), delay);
    this.left.addEventListener("abort", () => clearInterval(timer), { once: true });
  }
}

/** A page: it is told where the reader is, and again on each change of that. */
export class Page extends View {
  /** @type {import("./router.js").Place} */
  place = { page: "", rest: [], query: new URLSearchParams() };

  /** The title of the tab and the name of the page. */
  get title() {
    return "ByteBrew";
  }

  set title(_) {}

  update() {
    super.update();
    queueMicrotask(() => {
      if (this.isConnected) document.title = `${this.title} · ByteBrew`;
    });
  }

  /** The reader is at another address of this page. */
  moved() {
    this.update();
  }

  /** A parameter of the address. @param {string} name */
  query(name) {
    return this.place.query.get(name) ?? "";
  }
}
