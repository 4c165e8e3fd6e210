import { type ChatEvent, follow } from "./events.js";
import { type CallOptions, type ClientOptions, Http, Limit, newKey, type Query, type RequestOptions } from "./http.js";
import { answerTo, respond, Turn, type TurnOptions, type TurnState, type Verdict } from "./turn.js";
import type {
  Answered,
  ApprovalAnswer,
  ChatAnswer,
  ChatRequest,
  ConfirmationAsked,
  CreatedTask,
  ForkPage,
  Inbox,
  MessagePage,
  NewAttachment,
  NewTask,
  Session,
  SessionAnswer,
  SessionDetail,
  SessionPage,
  Task,
  TaskInput,
  TaskPage,
  TaskPatch,
} from "./types.js";

/** A message with what the API document names for a chat, how it is followed, and tools that run here. */
export interface ChatOptions
  extends Omit<ChatRequest, "message" | "stream" | "client_tools" | "attachments">, TurnOptions {
  /** Images and files: from an input of type file for example. */
  attachments?: (NewAttachment | Blob)[];
  /** A key of your own: the same message with the same key is one turn, within a day. */
  idempotencyKey?: string;
}

/** A text, or the answers to a form by the ids of its questions. */
export type ChatMessage = ChatRequest["message"];

/** An engine. */
export class Client {
  readonly sessions: Sessions;
  readonly tasks: Tasks;
  readonly approvals: Approvals;
  readonly #http: Http;

  constructor(options: ClientOptions) {
    this.#http = new Http(options);
    this.sessions = new Sessions(this.#http);
    this.tasks = new Tasks(this.#http);
    this.approvals = new Approvals(this.#http);
  }

  /** Sends a message to a schema, in a new session unless there is a `session_id`. */
  chat(schema: string, message: ChatMessage, options: ChatOptions = {}): Turn {
    return this.#turn(`/api/v1/schemas/${encodeURIComponent(schema)}/chat`, { message }, options);
  }

  /** Sends another message in place of that of a turn, in a new session with the history before it. */
  edit(sessionId: string, turnId: string, message: ChatMessage, options: Omit<ChatOptions, "session_id"> = {}): Turn {
    return this.#turn(`/api/v1/sessions/${encodeURIComponent(sessionId)}/edit`, { message, turn_id: turnId }, options);
  }

  /** Follows a turn behind the last event of its state; with an empty `last_event_id` from its first event. */
  resume(state: TurnState, options: TurnOptions = {}): Turn {
    return new Turn(this.#http, { ...state }, options, true);
  }

  /** Answers a question about a tool call, bound to the arguments that it showed. */
  async respond(question: ConfirmationAsked, verdict: Verdict): Promise<Answered> {
    return await respond(this.#http, question.session_id, answerTo(question, verdict));
  }

  /** A request to any route, such as `client.request("GET", "/api/v1/agents")`. */
  async request<Answer = unknown>(method: string, path: string, options: RequestOptions = {}): Promise<Answer> {
    return await this.#http.request(method, path, options);
  }

  #turn(path: string, start: object, options: ChatOptions): Turn {
    const { tools, onConfirmation, idempotencyKey, signal, timeout, attachments = [], ...fields } = options;
    const client_tools = tools?.map(({ name, description = "", input_schema }) => ({ name, description, input_schema }));
    const whole = (more: object) => JSON.stringify({ ...start, ...fields, ...(client_tools?.length && { client_tools }), ...more });
    const body = async () => whole({ attachments: await Promise.all(attachments.map(attached)) });
    const state = {
      path,
      body: attachments.length ? "" : whole({}),
      key: idempotencyKey ?? newKey(),
      begun_at: Date.now(),
      session_id: "",
      turn_id: "",
      last_event_id: "",
    };
    const followed = { signal, timeout, ...(tools && { tools }), ...(onConfirmation && { onConfirmation }) };
    return new Turn(this.#http, state, followed, idempotencyKey !== undefined, body);
  }
}

async function attached(file: NewAttachment | Blob): Promise<NewAttachment> {
  if (!(file instanceof Blob)) return file;
  const bytes = new Uint8Array(await file.arrayBuffer());
  let binary = "";
  for (let at = 0; at < bytes.length; at += 0x8000) binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  const name = "name" in file && typeof file.name === "string" ? { name: file.name } : {};
  return { media_type: file.type || "application/octet-stream", data: btoa(binary), ...name };
}

/** Follows what comes, from behind `after`, until the loop is left or the signal is aborted. */
async function* followed(http: Http, path: string, options: CallOptions & { after?: string }): AsyncGenerator<ChatEvent> {
  const limit = new Limit(options.signal, options.timeout);
  const open = (last: string, signal: AbortSignal) =>
    http.open("GET", path, { headers: { "Last-Event-ID": last || "0" }, signal });
  try {
    limit.signal.throwIfAborted();
    yield* follow(http, open, { last_event_id: options.after ?? "" }, limit.signal);
  } finally {
    limit.end();
  }
}

const SESSIONS = "/api/v1/sessions";
const TASKS = "/api/v1/tasks";
const APPROVALS = "/api/v1/approvals";
const of = (path: string, id: string, rest = "") => `${path}/${encodeURIComponent(id)}${rest}`;

/** The conversations that the caller may see. */
export class Sessions {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  list(query: Query = {}, options: CallOptions = {}): Promise<SessionPage> {
    return this.#http.request("GET", SESSIONS, { ...options, query: { offset: 0, ...query } });
  }

  get(id: string, options: CallOptions = {}): Promise<SessionDetail> {
    return this.#http.request("GET", of(SESSIONS, id), options);
  }

  /** A turn as it is now. */
  turn(id: string, turnId: string, options: CallOptions = {}): Promise<ChatAnswer> {
    return this.#http.request("GET", of(SESSIONS, id, `/turns/${encodeURIComponent(turnId)}`), options);
  }

  messages(id: string, query: { after?: number; limit?: number } = {}, options: CallOptions = {}): Promise<MessagePage> {
    return this.#http.request("GET", of(SESSIONS, id, "/messages"), { ...options, query: { offset: 0, ...query } });
  }

  /** All events behind `after`, then those to come. */
  events(id: string, options: CallOptions & { after?: string } = {}): AsyncGenerator<ChatEvent> {
    return followed(this.#http, of(SESSIONS, id, "/events"), options);
  }

  rename(id: string, title: string, options: CallOptions = {}): Promise<Session> {
    return this.#http.request("PATCH", of(SESSIONS, id), { ...options, body: { title } });
  }

  delete(id: string, options: CallOptions = {}): Promise<void> {
    return this.#http.request("DELETE", of(SESSIONS, id), options);
  }

  /** Stops the turn that runs. */
  cancel(id: string, options: CallOptions = {}): Promise<void> {
    return this.#http.request("POST", of(SESSIONS, id, "/cancel"), options);
  }

  /** A session with the same history up to the end of a turn, whose last event is `after`. */
  fork(id: string, after?: number, options: CallOptions = {}): Promise<Session> {
    const body = after === undefined ? {} : { after };
    return this.#http.request("POST", of(SESSIONS, id, "/fork"), { ...options, body, idempotencyKey: newKey() });
  }

  forks(id: string, query: Query = {}, options: CallOptions = {}): Promise<ForkPage> {
    return this.#http.request("GET", of(SESSIONS, id, "/forks"), { ...options, query });
  }

  /** Answers a question, or sends the result of a client's tool. */
  respond(id: string, body: SessionAnswer): Promise<Answered> {
    return respond(this.#http, id, body);
  }
}

/** Work for agents with a status of its own. */
export class Tasks {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  create(task: NewTask, options: CallOptions & { idempotencyKey?: string } = {}): Promise<CreatedTask> {
    return this.#http.request("POST", TASKS, { idempotencyKey: newKey(), ...options, body: task });
  }

  list(query: Query = {}, options: CallOptions = {}): Promise<TaskPage> {
    return this.#http.request("GET", TASKS, { ...options, query });
  }

  get(id: string, options: CallOptions = {}): Promise<Task> {
    return this.#http.request("GET", of(TASKS, id), options);
  }

  update(id: string, patch: TaskPatch, options: CallOptions = {}): Promise<Task> {
    return this.#http.request("PATCH", of(TASKS, id), { ...options, body: patch });
  }

  /** Cancels a task and all below it. */
  cancel(id: string, reason = "", options: CallOptions = {}): Promise<void> {
    return this.#http.request("DELETE", of(TASKS, id), { ...options, body: { reason } });
  }

  subtasks(id: string, options: CallOptions = {}): Promise<Task[]> {
    return this.#http.request("GET", of(TASKS, id, "/subtasks"), options);
  }

  /** Lets a draft be worked on, as `digest` says that it was shown. */
  approve(id: string, digest = "", options: CallOptions = {}): Promise<Task> {
    return this.#post(id, "approve", { digest }, options);
  }

  /** Marks a task as being worked on by somebody else than the engine. */
  start(id: string, options: CallOptions = {}): Promise<Task> {
    return this.#post(id, "start", undefined, options);
  }

  complete(id: string, result = "", options: CallOptions = {}): Promise<Task> {
    return this.#post(id, "complete", { result }, options);
  }

  fail(id: string, reason: string, options: CallOptions = {}): Promise<Task> {
    return this.#post(id, "fail", { reason }, options);
  }

  /** 0 normal, 1 high, 2 critical. */
  priority(id: string, priority: 0 | 1 | 2, options: CallOptions = {}): Promise<Task> {
    return this.#post(id, "priority", { priority }, options);
  }

  /** Answers what a task asks. */
  input(id: string, body: TaskInput, options: CallOptions = {}): Promise<Answered> {
    return this.#post(id, "input", body, options);
  }

  /** All events of a task behind `after`, then those to come. */
  events(id: string, options: CallOptions & { after?: string } = {}): AsyncGenerator<ChatEvent> {
    return followed(this.#http, of(TASKS, id, "/events"), options);
  }

  #post<Answer>(id: string, act: string, body: unknown, options: CallOptions): Promise<Answer> {
    return this.#http.request("POST", of(TASKS, id, `/${act}`), { ...options, body });
  }
}

/** The inbox of questions about tool calls, for the scope `approvals`. */
export class Approvals {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  list(query: Query = {}, options: CallOptions = {}): Promise<Inbox> {
    return this.#http.request("GET", APPROVALS, { ...options, query });
  }

  respond(id: string, body: ApprovalAnswer, options: CallOptions = {}): Promise<Answered> {
    const idempotencyKey = newKey();
    return this.#http.request("POST", of(APPROVALS, id, "/respond"), { ...options, body, idempotencyKey });
  }
}
