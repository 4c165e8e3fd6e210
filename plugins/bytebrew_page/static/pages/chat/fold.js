// A turn as its events make it: what was said, thought, called, shown and asked, in the order in which it came.

/** @typedef {import("../../core/stream.js").JournalEvent} JournalEvent */
/** @typedef {import("../../../api.ts").ConfirmationAsked} Asked */
/** @typedef {import("../../../api.ts").StructuredOutput} Output */
/** @typedef {import("../../../api.ts").Usage} Usage */
/** @typedef {import("../../../api.ts").Confirmation} Confirmation */

/** @typedef {{ kind: "text", text: string }} TextBlock */
/** @typedef {{ kind: "thinking", text: string, begun: number, ended: number }} ThinkingBlock */
/** @typedef {{ kind: "output", data: Output, answered: boolean }} OutputBlock */
/** @typedef {{ kind: "note", code: string, words: string, names?: string[] }} NoteBlock */
/** @typedef {{ kind: "steer", id: string, words: string, taken: boolean }} SteerBlock */
/**
 * A tool call; that of a spawned agent has the blocks of its turn. `ask` is a question to a person that waits or waited,
 * `later` has those that the call's source asks besides.
 * @typedef {{ kind: "call", id: string, tool: string, input: Record<string, any>, output: string | null, failed: boolean, begun: number, ended: number, blocks: Block[], ask: Question | null, later: Asked[], client: boolean }} CallBlock
 */
/** @typedef {{ event: Asked, data: Confirmation | null, open: boolean, until: number }} Question */
/** How long a card stays behind its call's result, for the answer to its request may come later than that. */
export const LINGERS = 1500;
/** @typedef {TextBlock | ThinkingBlock | OutputBlock | NoteBlock | SteerBlock | CallBlock} Block */

/** A message of a person. */
/** @typedef {{ content: string, attachments: { media_type: string, name: string }[] }} Said */

/** A turn of a conversation. */
export class Turn {
  /** @type {Said | null} */
  said = null;
  /** @type {Block[]} */
  blocks = [];
  /** @type {"running" | "completed" | "cancelled" | "failed"} */
  status = "running";
  /** @type {Usage | null} */
  usage = null;
  /** @type {{ code: string, message: string } | null} */
  failure = null;
  finish = "stop";
  /** The number of its last event, 0 while it runs. */
  last = 0;
  /** Rises with each change, so that a turn is drawn again only then. */
  version = 0;
  /** When it was sent, and when its first piece came, as far as this tab has seen it. */
  sentAt = 0;
  firstAt = 0;

  /** @param {string} id */
  constructor(id) {
    this.id = id;
  }

  /** Its text, without that of spawned agents. */
  get text() {
    return this.blocks.map((one) => (one.kind === "text" ? one.text : "")).join("");
  }

  /** The questions to people that wait, also those of spawned agents. @returns {CallBlock[]} */
  get asks() {
    return [...calls(this.blocks)].filter((one) => one.ask?.open);
  }

  /** @param {JournalEvent} event @param {number} at when it came, in milliseconds; 0 if that is not known */
  take(event, at) {
    const { data } = event;
    this.version += 1;
    const blocks = data.parent_call_id ? this.#spawned(data.parent_call_id)?.blocks : this.blocks;
    if (!blocks) return;
    if (!this.firstAt && at && (event.event === "message_delta" || event.event === "thinking")) this.firstAt = at;
    TAKES[event.event]?.(blocks, data, at, this, event.id);
  }

  /** The call that spawned an agent: a model may give two calls one id. @param {string} id */
  #spawned(id) {
    const found = [...calls(this.blocks)].filter((one) => one.id === id);
    return found.findLast((one) => one.tool.startsWith("spawn_")) ?? found.at(-1);
  }
}

/** The next question of a call, once one does not wait any more; whether there is one. @param {CallBlock} call */
export function following(call) {
  const event = call.later.shift();
  if (event) call.ask = { event, data: null, open: true, until: 0 };
  return Boolean(event);
}

/** All calls among some blocks, those of spawned agents too. @param {Block[]} blocks @returns {Generator<CallBlock>} */
export function* calls(blocks) {
  for (const block of blocks) {
    if (block.kind !== "call") continue;
    yield block;
    yield* calls(block.blocks);
  }
}

/** @param {Block[]} blocks @param {number} at */
function thought(blocks, at) {
  const last = blocks.at(-1);
  if (last?.kind === "thinking" && !last.ended) last.ended = at;
}

/** @param {Block[]} blocks @param {string} id */
const callOf = (blocks, id) =>
  /** @type {CallBlock | undefined} */ (blocks.findLast((one) => one.kind === "call" && one.id === id));

/** What each event does to the blocks of its turn. @type {Record<string, (blocks: Block[], data: any, at: number, turn: Turn, number: number) => void>} */
const TAKES = {
  thinking(blocks, { content }, at) {
    const last = blocks.at(-1);
    if (last?.kind === "thinking") last.text += content;
    else blocks.push({ kind: "thinking", text: content, begun: at, ended: 0 });
  },
  message_delta(blocks, { content }, at) {
    thought(blocks, at);
    const last = blocks.at(-1);
    if (last?.kind === "text") last.text += content;
    else blocks.push({ kind: "text", text: content });
  },
  message_restart(blocks, { content }) {
    const after = blocks.findLastIndex((one) => one.kind === "call" && one.output !== null);
    const kept = blocks.filter((one, n) => one.kind !== "thinking" || n < after);
    let left = content.length;
    for (const one of kept) {
      if (one.kind !== "text") continue;
      one.text = one.text.slice(0, left);
      left -= one.text.length;
    }
    blocks.splice(0, blocks.length, ...kept.filter((one) => one.kind !== "text" || one.text));
  },
  message(blocks, { content }, at) {
    thought(blocks, at);
    const whole = blocks.map((one) => (one.kind === "text" ? one.text : "")).join("");
    if (whole === content) return;
    const others = blocks.filter((one) => one.kind !== "text");
    blocks.splice(0, blocks.length, ...others, { kind: "text", text: content });
  },
  tool_call(blocks, { call_id, tool, input }, at) {
    thought(blocks, at);
    const more = { output: null, failed: false, begun: at, ended: 0, blocks: [], ask: null, later: [], client: false };
    blocks.push({ kind: "call", id: call_id, tool, input, ...more });
  },
  tool_result(blocks, { call_id, output, has_error }, at) {
    const call = callOf(blocks, call_id);
    if (!call) return;
    Object.assign(call, { output, failed: has_error, ended: at, later: [] });
    if (call.ask?.open) Object.assign(call.ask, { open: false, until: at + LINGERS });
    call.client = false;
  },
  confirmation(blocks, data, at) {
    let call = callOf(blocks, data.call_id);
    if (!call) {
      TAKES.tool_call(blocks, { ...data, input: data.input ?? {} }, at, new Turn(""), 0);
      call = callOf(blocks, data.call_id);
    }
    if (call?.ask?.open && call.ask.event.confirmation_id !== data.confirmation_id) call.later.push(data);
    else if (call) call.ask = { event: data, data: null, open: call.output === null, until: 0 };
  },
  client_tool_call(blocks, { call_id }) {
    const call = callOf(blocks, call_id);
    if (call) call.client = true;
  },
  structured_output(blocks, data, at) {
    thought(blocks, at);
    blocks.push({ kind: "output", data, answered: false });
  },
  notice(blocks, { code, message, names }) {
    blocks.push({ kind: "note", code, words: message, names });
  },
  summarised(blocks, { messages, turns }) {
    const words = `${messages} messages of ${turns} older turns went into a summary, which the model has in their place.`;
    blocks.push({ kind: "note", code: "summarised", words });
  },
  context_trimmed(blocks, { messages }) {
    const words = `The model answers without the session's oldest ${messages} messages: they are too long for it.`;
    blocks.push({ kind: "note", code: "context_trimmed", words });
  },
  steer(blocks, { turn_id, message }) {
    blocks.push({ kind: "steer", id: turn_id, words: message, taken: false });
  },
  steered(blocks, { turn_id }) {
    const at = blocks.findIndex((one) => one.kind === "steer" && one.id === turn_id);
    if (at < 0) return;
    const [steer] = /** @type {SteerBlock[]} */ (blocks.splice(at, 1));
    blocks.push({ ...steer, taken: true }); // from here on the model has it
  },
  done(blocks, { status, usage, finish_reason, turn_id }, at, turn, number) {
    thought(blocks, at);
    Object.assign(turn, { status, usage, finish: finish_reason, id: turn_id, last: number });
    close(blocks, at);
  },
  error(blocks, { code, message, turn_id }, at, turn, number) {
    thought(blocks, at);
    Object.assign(turn, { status: "failed", failure: { code, message }, id: turn_id, last: number });
    close(blocks, at);
  },
};

/** Nobody waits any more in a turn that has ended; a message that came too late gets a turn of its own. @param {Block[]} blocks @param {number} at */
function close(blocks, at) {
  for (const call of calls(blocks)) {
    if (call.ask) call.ask.open = false;
    call.client = false;
    if (call.output === null) call.ended ||= at;
  }
  const late = blocks.filter((one) => one.kind !== "steer" || one.taken);
  blocks.splice(0, blocks.length, ...late);
}
