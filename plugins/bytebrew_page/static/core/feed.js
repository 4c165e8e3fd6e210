// What has changed in the engine, for every page that is open: one stream for all tabs, by topic.
import { sessions, token } from "./session.js";
import { script } from "./trusted.js";

/** A change: its topic, such as `approval.created`, the id of what changed, and ids and names beside it. */
/** @typedef {{ topic: string, id: string, at: string, data: Record<string, any> }} Change */

const POLL = 5000;
const HIDDEN = 60_000;

/** @type {Set<{ topics: string[], run: (change: Change | null) => void }>} */
const listeners = new Set();
/** @type {MessagePort | null} */
let port = null;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

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
  open();
}

/** Whoever shows something asks for it again: nobody knows what has changed. */
function missed() {
  for (const listener of [...listeners]) listener.run(null);
}

/** @param {Change} change */
function spread(change) {
  const word = change.topic.split(".")[0];
  for (const { topics, run } of [...listeners]) if (topics.includes(word) || topics.includes(change.topic)) run(change);
}

/** A token that may not follow, and a browser without shared workers, ask every few seconds. */
function poll() {
  clearTimeout(timer);
  timer = setTimeout(
    () => {
      missed();
      poll();
    },
    document.hidden ? HIDDEN : POLL,
  );
}

/** Joins the stream that all tabs share. */
function open() {
  if (port || timer) return;
  if (!("SharedWorker" in window)) return poll();
  const worker = new SharedWorker(script("./feed_worker.js", import.meta.url), { type: "module" });
  port = worker.port;
  port.onmessage = ({ data }) => {
    if (data.change) spread(data.change);
    else if (data.state === "refused") poll();
    else if (data.state === "open") clearTimeout(timer);
    if (data.state === "missed" || data.state === "refused") missed();
  };
  port.start();
  greet();
  addEventListener("pagehide", () => port?.postMessage({ leave: true }));
  addEventListener("pageshow", (event) => event.persisted && greet());
}

/** Gives the worker the token of this tab, now and whenever there is another. */
function greet() {
  port?.postMessage(token() ? { token: token() } : { leave: true });
}

sessions.addEventListener("changed", greet);
