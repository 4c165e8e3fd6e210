// The shared worker that follows the engine's changes once for all tabs of a person.
import { frames } from "./sse.js";

const WAITS = [0, 500, 1000, 2000, 5000];

/** The tabs of each token, whose stream they share. @type {Map<string, Set<MessagePort>>} */
const tabs = new Map();

/** @param {MessagePort} port @param {string} token */
function join(port, token) {
  leave(port);
  const ports = tabs.get(token);
  if (ports) {
    ports.add(port);
    port.postMessage({ state: "open" });
    return;
  }
  tabs.set(token, new Set([port]));
  follow(token);
}

/** @param {MessagePort} port */
function leave(port) {
  for (const [token, ports] of tabs) if (ports.delete(port) && !ports.size) tabs.delete(token);
}

/** Follows until no tab has the token. @param {string} token */
async function follow(token) {
  const mine = tabs.get(token);
  const gone = () => tabs.get(token) !== mine;
  let seen = "";
  let tries = 0;
  while (!gone()) {
    const stop = new AbortController();
    const watch = setInterval(() => gone() && stop.abort(), 1000);
    try {
      /** @type {Record<string, string>} */
      const headers = token ? { authorization: `Bearer ${token}` } : {};
      if (seen) headers["last-event-id"] = seen;
      const response = await fetch("/api/v1/events", { headers, signal: stop.signal });
      if (response.status >= 400 && response.status < 500) {
        tell(token, { state: "refused" });
        tabs.delete(token);
        return;
      }
      if (response.ok && response.body) {
        tell(token, { state: tries && !seen ? "missed" : "open" });
        tries = 0;
        for await (const frame of frames(response.body)) {
          seen = frame.id;
          tell(token, frame.event === "missed" ? { state: "missed" } : { change: JSON.parse(frame.data) });
        }
      }
    } catch {
      // the engine is away, or all tabs are: the loop finds out which
    } finally {
      clearInterval(watch);
    }
    tries += 1;
    await new Promise((go) => setTimeout(go, WAITS[Math.min(tries, WAITS.length - 1)]));
  }
}

/** @param {string} token @param {unknown} message */
function tell(token, message) {
  for (const port of tabs.get(token) ?? []) port.postMessage(message);
}

self.addEventListener("connect", (event) => {
  const port = /** @type {MessageEvent} */ (event).ports[0];
  port.onmessage = ({ data }) => ("leave" in data ? leave(port) : join(port, data.token));
});
