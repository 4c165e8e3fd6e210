// A conversation: its turns from the session's events, what was sent and waits, and the stream that goes on for ever.
import { api, part, request } from "../../core/api.js";
import { say } from "../../core/say.js";
import { follow } from "../../core/stream.js";
import { calls, following, LINGERS, Turn } from "./fold.js";
import { Log } from "./log.js";
import { Speech } from "./speech.js";

/** @typedef {import("../../../api.ts").SessionDetail} SessionDetail */
/** @typedef {import("../../../api.ts").Message} Message */
/** @typedef {import("../../../api.ts").ChatAnswer} ChatAnswer */
/** @typedef {import("../../../api.ts").EventPage} EventPage */
/** @typedef {import("../../../api.ts").NewAttachment} NewAttachment */
/** @typedef {import("./fold.js").Said} Said */
/** @typedef {import("./fold.js").CallBlock} CallBlock */
/** @typedef {import("./fold.js").Confirmation} Confirmation */

/** How many of the newest events are read at first. */
const WINDOW = 4000;
/** A question that was not found after waits up to so many milliseconds is taken to be answered. */
const PATIENCE = 2000;

/**
 * What is sent: a text or the answers to a form, shown as `content`.
 * @typedef {{ message: string | { form: Record<string, any> }, content: string, attachments: NewAttachment[], key: string }} Outgoing
 */

export class Conversation {
  /** @type {SessionDetail | null} */
  detail = null;
  /** @type {Turn[]} */
  turns = [];
  /** Messages that wait for the turn that runs. @type {{ id: string, said: Said }[]} */
  queue = [];
  log = new Log();
  broken = false;
  loading = false;
  /** @type {Error | null} */
  error = null;
  /** Whether there are turns before the first of these. */
  earlier = false;
  #window = WINDOW;
  #speech = new Speech();
  #stop = new AbortController();
  #frame = 0;
  #lastMessage = 0;

  /**
   * @param {string} id of the session, "" for one that is to begin
   * @param {() => void} changed is called before the next frame after something has changed
   */
  constructor(id, changed) {
    this.id = id;
    /** The schema that it is of, once that is known. */
    this.schema = "";
    this.changed = changed;
  }

  close() {
    this.#stop.abort();
    cancelAnimationFrame(this.#frame);
  }

  /** The turn that runs, if one does. */
  get open() {
    const last = this.turns.at(-1);
    return last && last.status === "running" ? last : null;
  }

  /** Whether a person must answer. */
  get waits() {
    return Boolean(this.open?.asks.length);
  }

  #update() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.changed();
    });
  }

  /** Reads what there is, and follows what comes. */
  async load() {
    this.close();
    const { signal } = (this.#stop = new AbortController());
    this.loading = true;
    this.error = null;
    this.#update();
    try {
      const path = `/sessions/${part(this.id)}`;
      const detail = await api.get(path, {}, signal);
      const { last } = await api.get(`${path}/events`, { follow: false, limit: 1 }, signal);
      const after = await this.#read(path, last, detail.messages, signal);
      this.detail = detail;
      this.schema = detail.schema;
      await this.#waiting(signal);
      this.loading = false;

      this.#follow(after, signal);
    } catch (error) {
      if (signal.aborted) return;
      this.loading = false;
      this.error = /** @type {Error} */ (error);
    }
    this.#update();
  }

  /** Reads earlier turns too. */
  more() {
    this.#window *= 4;
    return this.load();
  }

  /**
   * Reads the newest events up to `last`, and gives the cursor behind them.
   * @param {string} path @param {number} last @param {Message[]} messages @param {AbortSignal} signal
   */
  async #read(path, last, messages, signal) {
    for (;;) {
      let after = String(Math.max(0, last - this.#window));
      this.earlier = after !== "0";
      this.turns = [];
      this.log.clear();
      let whole = !this.earlier; // the first turn may begin before the window
      for (let seen = 0; seen < last;) {
        /** @type {EventPage} */
        const page = await api.get(`${path}/events`, { follow: false, after }, signal);
        for (const entry of page.data) {
          const at = /** @type {any} */ (entry).at;
          const event = /** @type {import("./fold.js").JournalEvent} */ (entry);
          if (whole) this.#take(event, at ? new Date(at).getTime() : 0);
          else if (entry.event === "done" || entry.event === "error") whole = true;
        }
        seen = page.data.at(-1)?.id ?? last;
        after = page.next;
      }
      if (!this.turns.length && this.earlier) {
        this.#window *= 4; // one turn has more events than were read
        continue;
      }
      this.#say(messages);
      return after;
    }
  }

  /** @param {string} after @param {AbortSignal} signal */
  async #follow(after, signal) {
    /** @param {"open" | "broken"} state */
    const onstate = (state) => {
      this.broken = state === "broken";
      this.#update();
    };
    try {
      for await (const event of follow(this.id, { after, signal, onstate })) this.#take(event, Date.now());
    } catch (error) {
      this.error = /** @type {Error} */ (error);
      this.#update();
    }
  }

  /** @param {import("./fold.js").JournalEvent} event @param {number} at */
  #take(event, at) {
    let turn = this.open;
    if (!turn) {
      turn = new Turn("");
      this.turns.push(turn);
      const next = this.queue.shift();
      if (next) Object.assign(turn, next);
      if (at && !this.loading) this.#messages();
    }
    const sent = turn.id;
    turn.take(event, at);
    this.log.take(event);
    if (event.event === "steer") this.queue = this.queue.filter(({ id }) => id !== event.data.turn_id);
    if (event.event === "structured_output" || turn.blocks.length === 1) this.#answered();
    if (!this.loading) this.#hear(turn, event);
    if (event.event === "tool_result") setTimeout(() => ((turn.version += 1), this.#update()), LINGERS);
    if (turn.last && sent && sent !== turn.id && turn.said) this.#other(turn, sent);
    this.#update();
  }

  /** A turn of somebody else has ended where one's own was expected: that follows. @param {Turn} turn @param {string} sent */
  #other(turn, sent) {
    this.queue.unshift({ id: sent, said: /** @type {Said} */ (turn.said) });
    turn.said = null;
    this.#messages();
  }

  /** A form is answered once anything was said behind it. */
  #answered() {
    for (const turn of this.turns.slice(-3, -1)) {
      for (const one of turn.blocks) {
        if (one.kind !== "output" || one.answered) continue;
        one.answered = true;
        turn.version += 1;
      }
    }
  }

  /** What a reader of the screen hears. @param {Turn} turn @param {import("./fold.js").JournalEvent} event */
  #hear(turn, event) {
    if (event.event === "confirmation") {
      say(`${event.data.tool ?? "A tool"} waits for your answer`);
      this.questions();
    } else if (event.event === "error") say(`The turn has failed: ${event.data.message}`);
    else this.#speech.hear(turn.text, turn.last > 0);
  }

  /** The messages since the last ones that were read, which say who has said what. */
  async #messages() {
    const { signal } = this.#stop;
    const path = `/sessions/${part(this.id)}/messages`;
    const found = await api.get(path, { after: this.#lastMessage }, signal).catch(() => []);
    if (!signal.aborted) this.#say(found);
    this.#update();
  }

  /** @param {Message[]} messages */
  #say(messages) {
    /** @type {Map<string, Message>} */
    const first = new Map();
    for (const one of messages) if (one.role === "user" && !first.has(one.turn_id)) first.set(one.turn_id, one);
    this.#lastMessage = Number(messages.at(-1)?.id ?? this.#lastMessage);
    const open = this.open;
    const ended = new Set(this.turns.filter((one) => one.last).map((one) => one.id));
    const newest = [...first.keys()].at(-1);
    if (newest && !ended.has(newest)) {
      if (open) open.id = newest;
      else this.turns.push(new Turn(newest)); // it has begun, and no event has come
      this.queue = this.queue.filter(({ id }) => id !== newest);
    }
    for (const turn of this.turns) {
      const message = first.get(turn.id);
      if (!message || turn.said) continue;
      const files = /** @type {any[]} */ (message.attachments ?? []);
      turn.said = { content: message.content, attachments: files };
      turn.version += 1;
    }
    this.#answered();
  }

  /**
   * The whole of the questions that wait, for their cards; those that no longer wait were answered elsewhere. The event
   * of one may come before its turn tells of it: one that was never seen is asked for again for some seconds.
   */
  async questions(pause = 250) {
    const turn = this.open;
    if (!turn?.id || !turn.asks.length) return;
    const { signal } = this.#stop;
    const path = `/sessions/${part(this.id)}/turns/${part(turn.id)}`;
    /** @type {ChatAnswer | null} */
    const answer = await api.get(path, {}, signal).catch(() => null);
    if (!answer) return;
    const found = new Map((answer.questions ?? []).map((one) => [one.id, one]));
    for (const call of calls(turn.blocks)) {
      if (!call.ask?.open) continue;
      const data = found.get(call.ask.event.confirmation_id);
      if (data) call.ask.data ??= data;
      else if (call.ask.data || pause > PATIENCE) {
        call.ask.open = false;
        following(call);
      }
    }
    if (turn.asks.some(({ ask }) => !ask?.data) && !signal.aborted)
      setTimeout(() => signal.aborted || this.questions(pause * 2), pause);
    turn.version += 1;
    this.#update();
  }

  /** A question was answered here: its card goes on to say so. @param {CallBlock} call @param {Confirmation} question */
  answered(call, question) {
    if (!call.ask) return;
    call.ask.data = question;
    call.ask.open = false;
    if (following(call)) this.questions();
    for (const turn of this.turns) turn.version += 1;
    this.#update();
  }

  /**
   * Sends a message; the answer comes with the session's events.
   * @param {string} path `/schemas/{name}/chat`, or that of an edit
   * @param {Outgoing} out
   * @param {Record<string, any>} more
   * @returns {Promise<{ session: string, turn: string }>}
   */
  async send(path, out, more) {
    const said = { content: out.content, attachments: out.attachments.map(named) };
    const idle = !this.open && path.endsWith("/chat");
    const turn = new Turn("");
    if (idle) {
      Object.assign(turn, { said, sentAt: Date.now() });
      this.turns.push(turn);
      this.#answered();
      this.#update();
    }
    try {
      const sent = await post(path, out, { ...more, ...(this.id && idle ? { session_id: this.id } : {}) });
      if (idle) turn.id = sent.turn;
      else if (sent.session === this.id) this.#queued(sent.turn, said);
      if (!this.id) this.#begun(sent.session);
      return sent;
    } catch (error) {
      this.turns = this.turns.filter((one) => one !== turn);
      this.#update();
      throw error;
    }
  }

  /** @param {string} id */
  #begun(id) {
    this.id = id;
    this.#follow("0", this.#stop.signal);
  }

  /** @param {string} id @param {Said} said */
  #queued(id, said) {
    const known = this.turns.some((one) => one.id === id || one.blocks.some((b) => b.kind === "steer" && b.id === id));
    if (!known) this.queue.push({ id, said });
    this.#update();
  }

  /** The messages of this session that wait for others. @param {AbortSignal} signal */
  async #waiting(signal) {
    /** @type {import("../../../api.ts").WaitingMessage[]} */
    const found = await api.get(`/sessions/${part(this.id)}/queue`, {}, signal);
    this.queue = found.map(({ turn_id, message, attachments }) => ({
      id: turn_id,
      said: { content: message, attachments: /** @type {any[]} */ (attachments) },
    }));
  }

  /** Takes a message back that waits. @param {string} id of its turn */
  async remove(id) {
    await api.delete(`/sessions/${part(this.id)}/queue/${part(id)}`);
    this.queue = this.queue.filter((one) => one.id !== id);
    this.#update();
  }

  /** Stops the turn that runs. */
  stop() {
    return api.post(`/sessions/${part(this.id)}/cancel`);
  }
}

/** @param {NewAttachment} file */
const named = ({ media_type, name }) => ({ media_type, name: name ?? "" });

/**
 * Posts a message and leaves its stream, for the session's own has the same events.
 * @param {string} path @param {Outgoing} out @param {Record<string, any>} more
 */
async function post(path, out, more) {
  const attachments = out.attachments.length ? { attachments: out.attachments } : {};
  const json = { message: out.message, ...attachments, subagents: true, ...more };
  const response = await request("POST", path, { json, headers: { "idempotency-key": out.key } });
  await response.body?.cancel();
  const { headers } = response;
  return { session: headers.get("x-session-id") ?? "", turn: headers.get("x-turn-id") ?? "" };
}
