// Server-Sent Events over fetch: one chat or one session's events, which go on by number after whatever breaks.
import { ApiError, connection, request } from "./api.js";
import { frames } from "./sse.js";

/** An event of the journal: its number, its name and its decoded data. */
/** @typedef {{ id: number, event: string, data: any }} JournalEvent */

/** The number in the id of an event, whose epoch stands before it in a restored database. @param {string} id */
export const numberOf = (id) => Number(id.split(":").at(-1)) || 0;

const WAITS = [0, 500, 1000, 2000, 5000];
const LAST = new Set(["done", "error"]);

/**
 * The events of a session after a number, for ever: over broken connections, and over restarts of the engine.
 * @param {string} session
 * @param {{ after?: number | string, query?: Record<string, string>, signal: AbortSignal, onstate?: (state: "open" | "broken") => void }} options
 * @returns {AsyncGenerator<JournalEvent>}
 */
export async function* follow(session, { after = 0, query = {}, signal, onstate }) {
  let tries = 0;
  for (;;) {
    try {
      const path = `/sessions/${encodeURIComponent(session)}/events`;
      const response = await request("GET", path, { query: { ...query, after }, signal });
      tries = -1;
      onstate?.("open");
      for await (const frame of frames(/** @type {ReadableStream<Uint8Array>} */ (response.body))) {
        if (!frame.id) continue; // of the stream and not of the session
        after = frame.id;
        yield { id: numberOf(frame.id), event: frame.event, data: JSON.parse(frame.data) };
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && error.status >= 400 && error.status < 500) throw error;
    }
    if (signal.aborted) return;
    onstate?.("broken");
    tries += 1;
    await pause(WAITS[Math.min(tries, WAITS.length - 1)] * (0.75 + Math.random() / 2), signal);
  }
}

/**
 * A chat: its own stream first, then the session's events from the number where that broke, until its turn has ended.
 * @param {string} path `/schemas/{name}/chat` or another that begins a turn
 * @param {any} body
 * @param {{ signal: AbortSignal, headers?: Record<string, string>, onsession?: (session: string, turn: string) => void, onstate?: (state: "open" | "broken") => void }} options
 * @returns {AsyncGenerator<JournalEvent>}
 */
export async function* chat(path, body, { signal, headers = {}, onsession, onstate }) {
  const response = await request("POST", path, { json: body, headers, signal });
  const session = response.headers.get("x-session-id") ?? "";
  onsession?.(session, response.headers.get("x-turn-id") ?? "");
  let after = "0";
  try {
    for await (const frame of frames(/** @type {ReadableStream<Uint8Array>} */ (response.body))) {
      const event = { id: numberOf(frame.id), event: frame.event, data: JSON.parse(frame.data) };
      if (!frame.id && event.event === "error") break; // of the stream: the turn may go on
      after = frame.id || after;
      yield event;
      if (LAST.has(event.event)) return;
    }
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof ApiError) throw error;
    connection.dispatchEvent(new CustomEvent("lost"));
  }
  if (signal.aborted) return;
  onstate?.("broken");
  for await (const event of follow(session, { after, signal, onstate })) {
    yield event;
    if (LAST.has(event.event)) return;
  }
}

/** @param {number} delay @param {AbortSignal} signal @returns {Promise<void>} */
function pause(delay, signal) {
  return new Promise((go) => {
    const timer = setTimeout(go, delay);
    signal.addEventListener("abort", () => (clearTimeout(timer), go()), { once: true });
  });
}
