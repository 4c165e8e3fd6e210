// The events of a session as they came, for the panel that shows them: deltas in a run are one row.

/** @typedef {import("../../core/stream.js").JournalEvent} JournalEvent */
/** @typedef {{ first: number, event: string, events: JournalEvent[], characters: number }} Row */

const MOST = 500;
const JOINED = new Set(["message_delta", "thinking"]);

export class Log {
  /** @type {Row[]} */
  rows = [];
  last = 0;
  /** Whether numbers are missing among them. */
  gaps = false;

  clear() {
    this.rows = [];
    this.last = 0;
    this.gaps = false;
  }

  /** @param {JournalEvent} event */
  take(event) {
    if (this.last && event.id !== this.last + 1) this.gaps = true;
    this.last = event.id;
    const row = this.rows.at(-1);
    const length = JOINED.has(event.event) ? event.data.content.length : 0;
    if (row && row.event === event.event && JOINED.has(event.event) && row.events.length < MOST) {
      row.events.push(event);
      row.characters += length;
      return;
    }
    this.rows.push({ first: event.id, event: event.event, events: [event], characters: length });
    if (this.rows.length > MOST) this.rows.splice(0, this.rows.length - MOST);
  }
}

/** What a row says of its events. @param {Row} row */
export function excerpt(row) {
  const [{ event, data }] = row.events;
  if (row.events.length > 1) return `${row.events.length} ×, ${row.characters} characters`;
  const words = {
    message_delta: data.content,
    thinking: data.content,
    message: `${data.content?.length} characters`,
    tool_call: data.tool,
    tool_result: `${data.tool}${data.has_error ? " failed" : ""}`,
    confirmation: data.tool ?? "a question",
    client_tool_call: data.tool,
    structured_output: data.title ? `${data.output_type}: ${data.title}` : data.output_type,
    notice: data.code,
    error: data.code,
    done: data.usage?.cost_usd ? `${data.finish_reason}, $${data.usage.cost_usd.toFixed(4)}` : data.finish_reason,
    steer: data.message,
    steered: data.turn_id,
  }[event];
  return String(words ?? JSON.stringify(data)).slice(0, 200);
}
