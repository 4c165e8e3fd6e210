// What readers of the screen hear of an answer: finished sentences, at a pace that can be followed.
import { say } from "../../core/say.js";

const PAUSE = 1500;
const END = /[.!?…](?=\s)|\n/g;

export class Speech {
  #said = 0;
  #last = 0;
  #text = "";

  /** @param {string} text the answer so far @param {boolean} whole */
  hear(text, whole) {
    if (!text.startsWith(this.#text.slice(0, this.#said))) this.#said = 0; // another answer
    this.#text = text;
    if (text.length <= this.#said || (!whole && Date.now() - this.#last < PAUSE)) return;
    const ends = [...text.slice(this.#said).matchAll(END)];
    const until = whole ? text.length : this.#said + (ends.at(-1)?.index ?? -1) + 1;
    const words = text.slice(this.#said, until).trim();
    if (!words) return;
    say(words);
    this.#said = until;
    this.#last = Date.now();
  }
}
