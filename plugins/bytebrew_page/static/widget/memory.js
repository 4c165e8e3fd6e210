// What the browser of a visitor keeps between visits.
const KEY = "bytebrew.chat";

/** What a browser keeps of a conversation. @typedef {{ token?: string, until?: string, session?: string, open?: boolean }} Kept */

/** What this page's browser keeps, in one place; where it keeps nothing, until the page is left. */
class Memory {
  /** @type {Record<string, Kept>} */
  static #here = {};

  /** @param {string} name of the conversation */
  constructor(name) {
    this.name = name;
  }

  /** @returns {Record<string, Kept>} */
  static #all() {
    try {
      return JSON.parse(localStorage.getItem(KEY) ?? "{}");
    } catch {
      return Memory.#here;
    }
  }

  /** @returns {Kept} */
  get kept() {
    return Memory.#all()[this.name] ?? {};
  }

  /** Keeps something more; null forgets all of it. @param {Kept | null} changes */
  keep(changes) {
    const { [this.name]: own, ...others } = Memory.#all();
    Memory.#here = changes ? { ...others, [this.name]: { ...own, ...changes } } : others;
    try {
      if (Object.keys(Memory.#here).length) localStorage.setItem(KEY, JSON.stringify(Memory.#here));
      else localStorage.removeItem(KEY);
    } catch {
      // a browser that keeps nothing
    }
  }
}
