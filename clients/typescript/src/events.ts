import { ConnectionLost } from "./errors.js";
import { type Http, Limit } from "./http.js";
import { Retry } from "./retry.js";
import { chunksOf, frames, type RawFrame } from "./sse.js";
import { EVENT_NAMES, type KnownEvent } from "./types.js";

/** An event of a plugin or of a later engine; `name` says which. */
export interface UnknownEvent {
  id: string;
  event: "unknown";
  name: string;
  data: unknown;
}

/** An event of a turn or a session: `event` says which, and so what `data` is. */
export type ChatEvent = KnownEvent | UnknownEvent;

const KNOWN: ReadonlySet<string> = new Set(EVENT_NAMES);

function typed({ id, event, data }: RawFrame): ChatEvent {
  const value: unknown = JSON.parse(data);
  return KNOWN.has(event) ? ({ id, event, data: value } as KnownEvent) : { id, event: "unknown", name: event, data: value };
}

/** Whether an id is of a later event than another: `17`, or `2:17` in the second history of a restored database. */
function isLater(id: string, than: string): boolean {
  const [number, epoch = "1"] = id.split(":").reverse();
  const [before, epochBefore = "1"] = than.split(":").reverse();
  return epoch !== epochBefore || Number(number) > Number(before);
}

/** Where a stream goes on; `last_event_id` is empty before its first event. */
export interface Cursor {
  last_event_id: string;
}

/**
 * The events of a stream that is opened again, behind the last event, each time that it ends: each event once.
 *
 * Only an error that does not pass ends it, one that does not pass within `retryFor`, or the signal.
 */
export async function* follow(
  http: Http,
  open: (lastEventId: string, signal: AbortSignal) => Promise<Response>,
  cursor: Cursor,
  signal: AbortSignal,
): AsyncGenerator<ChatEvent> {
  const retry = new Retry(http.retryFor);
  let place = ""; // in the queue: such an event has no id, and comes again with each connection
  for (;;) {
    const attempt = new Limit(signal);
    const silent = () => attempt.abort(new ConnectionLost(`The engine was silent for ${http.silence} ms`));
    const timer = setTimeout(silent, http.silence);
    const opened = performance.now();
    try {
      const response = await open(cursor.last_event_id, attempt.signal).finally(() => clearTimeout(timer));
      if (!response.body) throw new ConnectionLost("The answer has no body");
      for await (const raw of frames(chunksOf(response.body, attempt.signal, http.silence, silent))) {
        if (raw.id) {
          if (cursor.last_event_id && !isLater(raw.id, cursor.last_event_id)) continue;
          cursor.last_event_id = raw.id;
        } else if (raw.event === "error") {
          throw new ConnectionLost(`The stream ended: ${raw.data}`); // the turn may go on
        } else if (raw.data === place) continue;
        else place = raw.data;
        retry.reset();
        yield typed(raw);
      }
      throw new ConnectionLost("The stream ended before its turn did");
    } catch (error) {
      signal.throwIfAborted();
      if (performance.now() - opened > 20_000) retry.reset(); // it lived on heartbeats
      await retry.wait(attempt.signal.aborted ? attempt.signal.reason : error, signal);
    } finally {
      attempt.end();
      attempt.abort(new ConnectionLost("closed"));
    }
  }
}
