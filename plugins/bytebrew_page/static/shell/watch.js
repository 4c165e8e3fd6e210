// Whether the engine answers: asked again and again while it does not, and what came with its return.
import { connection } from "../core/api.js";
import { say } from "../core/say.js";

/** @typedef {import("../../api.ts").Health} Health */

const PATIENCE = 2000;
const WAITS = [250, 500, 1000, 2000, 5000];
const HEALTH = "/api/v1/health";

/** Follows the connection for a view, which draws `lost`, `seen` and `notice`. */
export class Watch {
  /** Whether the engine has not answered for 2 s. */
  lost = false;
  /** When it answered last. */
  seen = new Date();
  /** What has happened since the page was loaded. @type {"" | "restarted" | "updated"} */
  notice = "";
  /** @type {Health | null} */
  health = null;
  #asking = false;
  /** Ends the pause before the next question. @type {() => void} */
  #wake = () => {};

  /** @param {{ update(): void, left: AbortSignal }} view */
  constructor(view) {
    this.view = view;
    connection.addEventListener("answered", () => this.#answered(), { signal: view.left });
    connection.addEventListener("lost", () => this.#ask(), { signal: view.left });
  }

  /** Asks for the engine's health, whose refusal to serve is an answer too. */
  async look() {
    const response = await fetch(HEALTH, { signal: this.view.left }).catch(() => null);
    const told = response && (await response.json().catch(() => null));
    if (!told?.version) {
      if (!this.view.left.aborted) this.#ask();
      return false;
    }
    this.#compare(told);
    this.health = told;
    this.#answered();
    this.view.update();
    return true;
  }

  /** The engine has answered, whoever asked. */
  #answered() {
    this.seen = new Date();
    this.#wake();
  }

  /** @param {Health} now */
  #compare(now) {
    if (!this.health || this.health.started_at === now.started_at) return;
    this.notice = this.notice === "updated" || this.health.version !== now.version ? "updated" : "restarted";
  }

  async #ask() {
    if (this.#asking) return;
    this.#asking = true;
    const patience = setTimeout(() => this.#show(true), PATIENCE);
    for (let tries = 0; !this.view.left.aborted; tries += 1) {
      await new Promise((go) => {
        this.#wake = () => go(undefined);
        setTimeout(go, WAITS[Math.min(tries, WAITS.length - 1)]);
      });
      if (await this.look()) break;
    }
    clearTimeout(patience);
    this.#asking = false;
    if (this.view.left.aborted) return;
    this.#show(false);
    connection.dispatchEvent(new Event("back"));
  }

  /** @param {boolean} lost */
  #show(lost) {
    if (this.lost === lost) return;
    this.lost = lost;
    document.documentElement.toggleAttribute("data-lost", lost);
    say(lost ? "Connection lost" : "Connected");
    this.view.update();
  }
}

/** What writes: while the engine does not answer, none of it is sent. */
const WRITES = "main :is(.btn.first, .btn.no, [type=submit]), dialog :is(.btn.first, .btn.no, [type=submit])";

/** Holds back what writes while the engine does not answer. @param {AbortSignal} signal */
export function holdWrites(signal) {
  /** @param {Event} event */
  const hold = (event) => {
    const target = /** @type {Element} */ (event.target);
    if (!document.documentElement.hasAttribute("data-lost")) return;
    if (event.type === "click" && !target.closest(WRITES)) return;
    event.preventDefault();
    event.stopPropagation();
    say("The engine does not answer. Nothing was sent.");
  };
  for (const type of ["click", "submit"]) document.addEventListener(type, hold, { signal, capture: true });
}
