import { ConnectionLost, Conflict, Gone, NotFound, TurnFailed } from "./errors.js";
import { type ChatEvent, follow } from "./events.js";
import { type CallOptions, type Http, Limit, newKey } from "./http.js";
import type { ChatAnswer, ClientCall, ConfirmationAsked, Done, ErrorEvent, NewClientTool, SessionAnswer } from "./types.js";

/** A tool that runs here: what `run` returns, a text or any JSON, goes to the model; what it throws, as a failure. */
export interface ClientTool extends NewClientTool {
  // a method, so that an array may have tools with inputs of their own types
  run(input: any, call: { call_id: string; session_id: string; signal: AbortSignal }): unknown;
}

/** An answer to a question: a word, or with arguments in place of those of the call, or with a reason. */
export type Verdict = Decision | { answer: Decision; input?: Record<string, unknown>; reason?: string };
/** The last three answer a question of kind `unknown_outcome`. */
export type Decision = "approve" | "reject" | "retry" | "mark_done" | "fail";

/** How a turn is followed. */
export interface TurnOptions extends CallOptions {
  /** Tools that run here, if the schema allows them. */
  tools?: ClientTool[];
  /** Answers a question about a tool call; undefined leaves it to others, such as the inbox of approvals. */
  onConfirmation?: (question: ConfirmationAsked) => Verdict | undefined | Promise<Verdict | undefined>;
}

/** What a turn needs to be followed again, after a reload for example: JSON, for `resume`. */
export interface TurnState {
  path: string;
  body: string;
  key: string;
  begun_at: number;
  session_id: string;
  turn_id: string;
  last_event_id: string;
}

const KEY_LIFE = 20 * 3600 * 1000; // an engine keeps the key of an ended turn for a day

/** One message and its answer: iterate over its events, or await `answer()`. The message is sent by the first of them. */
export class Turn implements AsyncIterable<ChatEvent> {
  readonly #http: Http;
  readonly #state: TurnState;
  readonly #options: TurnOptions;
  readonly #body: () => Promise<string>;
  readonly #begun = new Set<string>(); // calls and questions that are answered here
  readonly #repeats: boolean;
  #started = false;
  #text = "";
  #end: Done | ErrorEvent | undefined;

  /** `body` makes the body of the request where the state has none yet; one that `repeats` may have run before. */
  constructor(http: Http, state: TurnState, options: TurnOptions, repeats: boolean, body?: () => Promise<string>) {
    this.#http = http;
    this.#state = state;
    this.#options = options;
    this.#repeats = repeats;
    this.#body = body ?? (async () => state.body);
  }

  /** The session; empty before the first event. */
  get sessionId(): string {
    return this.#state.session_id;
  }

  /** The id of the message; empty before the first event. */
  get turnId(): string {
    return this.#state.turn_id;
  }

  /** What `resume` needs to go on behind the last event. */
  get state(): TurnState {
    return { ...this.#state };
  }

  /** The answer so far. */
  get text(): string {
    return this.#text;
  }

  /** The turn as a whole, once it has ended; throws TurnFailed for one that failed. */
  async answer(): Promise<ChatAnswer> {
    if (!this.#end) for await (const _ of this);
    const end = this.#end;
    if (end && "code" in end) {
      throw new TurnFailed(end.code, end.message, end.session_id, end.turn_id, end.retry_after);
    }
    return await this.#read();
  }

  /** Stops the turn that the session runs: its last event is `done` with the status `cancelled`. */
  async cancel(): Promise<void> {
    await this.#http.request("POST", `/api/v1/sessions/${this.sessionId}/cancel`);
  }

  /** The events up to `done` or `error`, each once, over lost connections and restarts of the engine. */
  async *[Symbol.asyncIterator](): AsyncGenerator<ChatEvent> {
    if (this.#started) throw new Error("A turn is read once; resume(turn.state) reads on");
    this.#started = true;
    const limit = new Limit(this.#options.signal, this.#options.timeout);
    try {
      limit.signal.throwIfAborted();
      if (this.#repeats && this.#state.turn_id && this.#answers) await this.#catchUp(limit);
      for await (const event of follow(this.#http, (last, signal) => this.#open(last, signal), this.#state, limit.signal)) {
        this.#answer(event, limit);
        this.#read_text(event);
        const end = (event.event === "done" || event.event === "error") && event.data.agent === undefined;
        if (end) this.#end = event.data;
        yield event;
        if (end) return;
      }
    } finally {
      limit.end();
      limit.abort(new ConnectionLost("The turn is no longer followed"));
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
      const question: ConfirmationAsked = { ...one, kind: one.kind, confirmation_id: one.id };
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
