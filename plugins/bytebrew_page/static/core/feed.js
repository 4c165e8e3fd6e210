// What has changed in the engine, for every page that is open: one stream for all tabs, by topic.
import { connection } from "./api.js";

/** A change: its topic, such as `approval.created`, the id of what changed, and more ids beside it. */
/** @typedef {{ topic: string, id: string, at: string, [more: string]: any }} Change */

const POLL = 5000;
const HIDDEN = 60_000;

/** @type {Set<{ topics: string[], run: (change: Change | null) => void }>} */
const listeners = new Set();

/**
 * Calls back on changes whose topic begins with one of these words; with null where changes may have been missed.
 * @param {string[]} topics such as `["approval", "turn"]`
 * @param {(change: Change | null) => void} run
 * @param {AbortSignal} signal
 */
export function listen(topics, run, signal) {
  const listener = { topics, run };
  listeners.add(listener);
  signal.addEventListener("abort", () => listeners.delete(listener), { once: true });
}

function missed() {
  for (const listener of [...listeners]) listener.run(null);
  setTimeout(missed, document.hidden ? HIDDEN : POLL);
}

setTimeout(missed, POLL);
connection.addEventListener("back", () => {
  for (const listener of [...listeners]) listener.run(null);
});
