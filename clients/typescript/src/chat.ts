import { ConnectionLost, Conflict, Gone, InputNeeded, NotFound, TurnFailed } from "./errors.js";
import { type ChatEvent, follow } from "./events.js";
import { type CallOptions, type Http, Limit, newKey } from "./http.js";
import { Retry } from "./retry.js";
import type { Answered, ChatAnswer, ChatRequest, ClientCall, ConfirmationAsked, NewAttachment, NewClientTool, SessionAnswer } from "./types.js";

/** A tool that runs here: what `run` returns, a text or any JSON, goes to the model; what it throws, as a failure. */
export interface ClientTool extends NewClientTool {
  // a method, so that an array may have tools with inputs of their own types
  run(input: any, call: { call_id: string; session_id: string; signal: AbortSignal }): unknown;
}

/** An answer to a question: a word, or with arguments in place of those of the call, or with a reason. */
export type Verdict = Decision | { answer: Decision; input?: Record<string, unknown>; reason?: string };
/** The last three answer a question of kind `unknown_outcome`. */
export type Decision = "approve" | "reject" | "retry" | "mark_done" | "fail";

/** How a chat is followed. */
export interface FollowOptions extends CallOptions {
  /** Tools that run here, if the schema allows them. */
  tools?: ClientTool[];
  /** Answers a question about a tool call; undefined leaves it to others, such as the inbox of approvals. */
  onConfirmation?: (question: ConfirmationAsked) => Verdict | undefined | Promise<Verdict | undefined>;
}

/** A text, or the answers to a form by the ids of its questions. */
export type ChatMessage = ChatRequest["message"];

/** What a chat may have besides its message: the fields of the API, how it is followed, and tools that run here. */
export interface ChatOptions
  extends Omit<ChatRequest, "message" | "stream" | "client_tools" | "attachments">, FollowOptions {
  /** Images and files: from an input of type file for example. */
  attachments?: (NewAttachment | Blob)[];
  /** A turn of the session, whose message this one takes the place of, in a fork. */
  replaces?: string;
  /** A key of your own: the same message with the same key is one turn, within a day. */
  idempotencyKey?: string;
}

/** What a chat needs to be followed again, after a reload for example: JSON, for `resume`. */
export interface ChatState {
  path: string;
  body: string;
  key: string;
  begun_at: number;
  session_id: string;
  turn_id: string;
  last_event_id: string;
  ended: boolean;
}

const KEY_LIFE = 20 * 3600 * 1000; // an engine keeps the key of an ended turn for a day

/**
 * A message and its turn: iterate over its events, or await `answer()`. The message is sent by the first of these.
 *
 * Leaving the loop closes the connection, and the turn goes on; another loop goes on behind the last event.
 */
export class Chat implements AsyncIterable<ChatEvent> {
  readonly #http: Http;
  readonly #state: ChatState;
  readonly #options: FollowOptions;
  readonly #body: () => Promise<string>;
  readonly #next: ((message: ChatMessage, options: ChatOptions) => Chat) | undefined;
  readonly #begun = new Set<string>(); // calls and questions that are answered here
  #repeats: boolean;
  #text = "";
  #retryAfter: number | undefined;

  /**
   * One that `repeats` may have run before. `body` makes the body of the request where the state has none yet, `next`
   * a message to the same schema with the same options.
   */
  constructor(
    http: Http,
    state: ChatState,
    options: FollowOptions,
    repeats: boolean,
    body?: () => Promise<string>,
    next?: (message: ChatMessage, options: ChatOptions) => Chat,
  ) {
    this.#http = http;
    this.#state = state;
    this.#options = options;
    this.#repeats = repeats;
    this.#body = body ?? (async () => state.body);
    this.#next = next;
  }

  /** The session; empty before the engine has the message. */
  get sessionId(): string {
    return this.#state.session_id;
  }

  /** The id of the message; empty before the engine has it. */
  get turnId(): string {
    return this.#state.turn_id;
  }

  /** What `resume` needs to go on behind the last event. */
  get state(): ChatState {
    return { ...this.#state };
  }

  /** The answer as far as it was read. */
  get textSoFar(): string {
    return this.#text;
  }

  /** Sends the message, and returns once the engine has it; the turn goes on by itself. */
  async send(): Promise<this> {
    const limit = new Limit(this.#options.signal, this.#options.timeout ?? this.#http.timeout);
    try {
      limit.signal.throwIfAborted();
      const retry = new Retry(this.#http.retryFor);
      while (!this.turnId) {
        try {
          const response = await this.#open("", limit.signal);
          await response.body?.cancel();
        } catch (error) {
          limit.signal.throwIfAborted();
          await retry.wait(error, limit.signal);
        }
      }
    } finally {
      limit.end();
    }
    return this;
  }

  /**
   * Reads on to the end, or to the next question to a person where no function answers it, and returns the turn as the
   * engine has it then. Throws TurnFailed.
   */
  async answer(): Promise<ChatAnswer> {
    if (!this.#state.ended) {
      for await (const { event } of this) if (event === "confirmation" && !this.#options.onConfirmation) break;
    }
    const answer = await this.#read();
    if (answer.failure) {
      const { error, message } = answer.failure;
      throw new TurnFailed(error, message, answer.session_id, answer.turn_id, this.#retryAfter);
    }
    return answer;
  }

  /** The text of the whole answer. Throws TurnFailed, and InputNeeded where a person must answer first. */
  async text(): Promise<string> {
    return (await this.#whole()).message;
  }

  /** The value of a structured answer. Throws as `text` does. */
  async value<Value = unknown>(): Promise<Value> {
    return (await this.#whole()).data as Value;
  }

  /** The next message of the session, with the same options. */
  reply(message: ChatMessage, options: ChatOptions = {}): Chat {
    if (!this.sessionId) throw new Error("The chat has no session yet: send it, or read its first event");
    if (!this.#next) throw new Error("A chat that was resumed does not know its schema: use client.chat");
    return this.#next(message, { session_id: this.sessionId, ...options });
  }

  /** Answers a form by the ids of its questions: the next message of the session. */
  answerForm(answers: Record<string, unknown>, options: ChatOptions = {}): Chat {
    return this.reply({ form: answers }, options);
  }

  /** Puts a message into the turn that runs, at once. This chat's events go on with it, and the new one's too. */
  async steer(message: string): Promise<Chat> {
    return await this.reply(message, { on_busy: "steer" }).send();
  }

  /** Another message in place of this one, in a fork of the session. */
  edit(message: ChatMessage, options: ChatOptions = {}): Chat {
    return this.reply(message, { ...options, replaces: this.turnId });
  }

  /** Stops the turn that the session runs: its last event is `done` with the status `cancelled`. */
  async cancel(): Promise<void> {
    await this.#http.request("POST", `/api/v1/sessions/${this.sessionId}/cancel`);
  }

  /** Lets a call run, or with `input` in place of its arguments; bound to what the question showed. */
  async approve(question: ConfirmationAsked, more: { input?: Record<string, unknown>; reason?: string } = {}): Promise<Answered> {
    return await this.answerQuestion(question, { answer: "approve", ...more });
  }

  /** Lets a call not run. */
  async reject(question: ConfirmationAsked, more: { reason?: string } = {}): Promise<Answered> {
    return await this.answerQuestion(question, { answer: "reject", ...more });
  }

  /** Answers a question. */
  async answerQuestion(question: ConfirmationAsked, verdict: Verdict): Promise<Answered> {
    return await respond(this.#http, question.session_id, answerTo(question, verdict));
  }

  /** The events up to `done` or `error`, each once, over lost connections and restarts of the engine. */
  async *[Symbol.asyncIterator](): AsyncGenerator<ChatEvent> {
    if (this.#state.ended) return;
    const limit = new Limit(this.#options.signal, this.#options.timeout);
    try {
      limit.signal.throwIfAborted();
      if (this.#repeats && this.#state.turn_id && this.#answers) await this.#catchUp(limit);
      else if (this.#state.last_event_id === "") this.#text = "";
      for await (const event of follow(this.#http, (last, signal) => this.#open(last, signal), this.#state, limit.signal)) {
        this.#answer(event, limit);
        this.#read_text(event);
        if (event.event === "error") this.#retryAfter = event.data.retry_after;
        this.#state.ended = (event.event === "done" || event.event === "error") && event.data.agent === undefined;
        yield event;
        if (this.#state.ended) return;
      }
    } finally {
      limit.end();
      limit.abort(new ConnectionLost("The turn is no longer followed"));
      this.#repeats = true;
      this.#begun.clear();
    }
  }

  async #open(lastEventId: string, signal: AbortSignal): Promise<Response> {
    const state = this.#state;
    if (lastEventId) {
      const headers = { "Last-Event-ID": lastEventId };
      return await this.#http.open("GET", `/api/v1/sessions/${state.session_id}/events`, { headers, signal });
    }
    if (state.turn_id && Date.now() - state.begun_at > KEY_LIFE) {
      throw new Error("The message was sent too long ago to be sent again as the same one; read its session");
    }
    state.body ||= await this.#body();
    const headers = { "Idempotency-Key": state.key };
    const response = await this.#http.open("POST", state.path, { body: state.body, headers, signal });
    state.session_id = response.headers.get("x-session-id") ?? "";
    state.turn_id = response.headers.get("x-turn-id") ?? "";
    if (!state.session_id) {
      throw new Error("The answer has no X-Session-Id: is a proxy in between that removes it, or CORS that hides it?");
    }
    return response;
  }

  #read_text(event: ChatEvent): void {
    if ("data" in event && typeof event.data === "object" && event.data && "agent" in event.data) return;
    if (event.event === "message_delta") this.#text += event.data.content;
    if (event.event === "message_restart" || event.event === "message") this.#text = event.data.content;
  }

  async #whole(): Promise<ChatAnswer> {
    const answer = await this.answer();
    if (answer.questions?.length) throw new InputNeeded(answer);
    return answer;
  }

  get #answers(): boolean {
    return Boolean(this.#options.tools?.length || this.#options.onConfirmation);
  }

  async #read(signal?: AbortSignal): Promise<ChatAnswer> {
    return await this.#http.request("GET", `/api/v1/sessions/${this.sessionId}/turns/${this.turnId}`, { signal });
  }

  /** Takes up what was asked before this turn was followed. */
  async #catchUp(limit: Limit): Promise<void> {
    const { questions = [], client_calls: calls = [] } = await this.#read(limit.signal);
    const session_id = this.sessionId;
    for (const one of calls) this.#soon(limit, one.call_id, () => this.#run({ ...one, session_id }, limit));
    for (const one of questions) {
      if (one.kind === "client_tool") continue;
      const input_schema = one.input_schema ?? undefined;
      const question: ConfirmationAsked = { ...one, kind: one.kind, confirmation_id: one.id, input_schema };
      this.#soon(limit, one.id, () => this.#decide(question, limit));
    }
  }

  /** Answers what an event asks for; in a turn that may have run before, if it still waits. */
  #answer(event: ChatEvent, limit: Limit): void {
    if (event.event !== "client_tool_call" && event.event !== "confirmation") return;
    const call = event.event === "client_tool_call";
    const id = call ? event.data.call_id : event.data.confirmation_id;
    const answer = () => (call ? this.#run(event.data, limit) : this.#decide(event.data, limit));
    this.#soon(limit, id, this.#repeats ? async () => void ((await this.#waits(id, limit)) && (await answer())) : answer);
  }

  /** Answers a call or a question once, besides reading on; a failure ends the reading. */
  #soon(limit: Limit, id: string, answer: () => Promise<void>): void {
    if (!this.#answers || this.#begun.has(id)) return;
    this.#begun.add(id);
    answer().catch((error: unknown) => limit.abort(error));
  }

  async #run(call: Pick<ClientCall, "tool" | "input" | "call_id"> & { session_id: string }, limit: Limit): Promise<void> {
    const tool = this.#options.tools?.find((one) => one.name === call.tool);
    if (!tool) return;
    let result: unknown;
    let is_error = false;
    try {
      const { call_id, session_id } = call;
      result = (await tool.run(call.input, { call_id, session_id, signal: limit.signal })) ?? null;
    } catch (error) {
      result = error instanceof Error ? error.message : `${error}`;
      is_error = true;
    }
    await respond(this.#http, call.session_id, { call_id: call.call_id, result, is_error }, limit.signal).catch(decided);
  }

  async #decide(question: ConfirmationAsked, limit: Limit): Promise<void> {
    const verdict = await this.#options.onConfirmation?.(question);
    if (verdict === undefined) return;
    const body = answerTo(question, verdict);
    await respond(this.#http, question.session_id, body, limit.signal).catch(decided);
  }

  /** Whether a call or a question still waits. */
  async #waits(id: string, limit: Limit): Promise<boolean> {
    const { questions = [], client_calls: calls = [] } = await this.#read(limit.signal);
    return questions.some((one) => one.id === id) || calls.some((one) => one.call_id === id);
  }
}

/** What `verdict` says of a question, bound to the arguments that were shown. */
export function answerTo(question: Pick<ConfirmationAsked, "confirmation_id" | "args_digest">, verdict: Verdict): SessionAnswer {
  const { answer, ...more } = typeof verdict === "string" ? { answer: verdict } : verdict;
  const digest = question.args_digest ? { args_digest: question.args_digest } : {};
  return { confirmation_id: question.confirmation_id, answers: [answer], ...digest, ...more };
}

/** Sends an answer or a result until the engine has it. */
export async function respond<Answer>(http: Http, session: string, body: SessionAnswer, signal?: AbortSignal): Promise<Answer> {
  const path = `/api/v1/sessions/${encodeURIComponent(session)}/respond`;
  return await http.request("POST", path, { body, signal, idempotencyKey: newKey() });
}

/** Passes over that somebody else has answered, or that nobody waits any more: the events say what came of it. */
function decided(error: unknown): void {
  if (!(error instanceof NotFound || error instanceof Conflict || error instanceof Gone)) throw error;
}
