// The spans of a turn as the reader sees them: in milliseconds from the turn's beginning, and where the time went.

/** @typedef {import("../../../api.ts").Span} Span */
/** @typedef {import("../../../api.ts").TurnRow} TurnRow */
/** @typedef {import("../../../api.ts").Timeline} Timeline */
/**
 * @typedef {object} Bar a row of the timeline; times are milliseconds from the beginning
 * @property {string} id
 * @property {string | null} parent
 * @property {"turn" | "queue" | "model" | "tool" | "agent" | "person"} kind
 * @property {string} name
 * @property {string} sub
 * @property {string} state
 * @property {number} start
 * @property {number} end
 * @property {number | null} first when the first token came, from the start of the bar
 * @property {Span | null} span
 */

const at = (/** @type {string} */ text) => new Date(text).getTime();

/** @param {Timeline} timeline @param {number} now the engine's clock, for what goes on */
export function barsOf({ turn, spans }, now) {
  const zero = at(turn.queued_at);
  /** @type {Record<string, number>} */
  const steps = {};
  const bars = spans.map((span) => {
    const start = at(span.started_at) - zero;
    const end = (span.ended_at ? at(span.ended_at) : Math.max(now, at(span.started_at))) - zero;
    const first = span.first_token_at ? at(span.first_token_at) - zero - start : null;
    const step =
      span.kind === "model" && span.purpose === "step" ? (steps[span.turn_id] = (steps[span.turn_id] ?? 0) + 1) : 0;
    return {
      id: span.id,
      parent: span.parent_id ?? "turn",
      kind: span.kind,
      ...named(span, step),
      state: span.state,
      start,
      end,
      first,
      span,
    };
  });
  const last = Math.max(
    turn.ended_at ? at(turn.ended_at) - zero : now - zero,
    ...bars.slice(-50).map((bar) => bar.end),
  );
  /** @type {Bar} */
  const whole = {
    ...{ id: "turn", parent: null, kind: "turn", name: `Turn ${turn.number}`, sub: `“${turn.message}”` },
    ...{ state: turn.status, start: 0, end: Math.max(1, last), first: null, span: null },
  };
  return [whole, ...bars];
}

/** @param {Span} span @param {number} step */
function named(span, step) {
  switch (span.kind) {
    case "model":
      return {
        name: step ? `Step ${step}` : span.purpose === "sampling" ? "Asked by a tool" : "Summary",
        sub: span.model,
      };
    case "person":
      return { name: span.ended_at ? "Waited for an answer" : "Waits for an answer", sub: span.name };
    case "queue":
      return { name: span.ended_at ? "Waited in the queue" : "Waits in the queue", sub: "" };
    case "agent":
      return { name: span.name, sub: span.version ? `v${span.version}` : "" };
    default:
      return { name: span.name, sub: "" };
  }
}

/** Of what goes on at once, the first of these counts: who works, before who waits. */
const KINDS = /** @type {const} */ (["model", "tool", "person", "queue"]);

/** The stretches of a turn, each with what its time went into. @param {Bar[]} bars @returns {[number, number, string][]} */
export function stretches(bars) {
  /** @type {[number, number, number][]} */
  const edges = [];
  for (const bar of bars) {
    const kind = KINDS.indexOf(/** @type {any} */ (bar.kind));
    if (kind >= 0 && bar.end > bar.start) edges.push([bar.start, kind, 1], [bar.end, kind, -1]);
  }
  edges.sort((a, b) => a[0] - b[0]);
  const open = [0, 0, 0, 0];
  const end = bars[0]?.end ?? 0;
  /** @type {[number, number, string][]} */
  const found = [];
  let from = 0;
  for (const [time, kind, change] of [...edges, /** @type {[number, number, number]} */ ([end, 0, 0])]) {
    if (time > from) {
      const what = KINDS[open.findIndex((count) => count > 0)] ?? "engine";
      const before = found.at(-1);
      if (before?.[2] === what) before[1] = time;
      else found.push([from, time, what]);
      from = time;
    }
    open[kind] += change;
  }
  return found;
}

/** The time that went into each kind. @param {[number, number, string][]} found */
export function sums(found) {
  /** @type {Record<string, number>} */
  const total = { person: 0, model: 0, tool: 0, queue: 0, engine: 0 };
  for (const [from, to, what] of found) total[what] += to - from;
  return total;
}

/** The bars without the time in which nothing but a person was waited for. @param {Bar[]} bars @param {[number, number, string][]} found */
export function withoutWaits(bars, found) {
  const waits = found.filter(([, , what]) => what === "person");
  const moved = (/** @type {number} */ time) =>
    time - waits.reduce((sum, [from, to]) => sum + Math.max(0, Math.min(time, to) - from), 0);
  return bars
    .filter((bar) => bar.kind !== "person")
    .map((bar) => ({ ...bar, start: moved(bar.start), end: moved(bar.end) }));
}
