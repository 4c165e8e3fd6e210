import { type ChatEvent, follow } from "./events.js";
import { type CallOptions, type ClientOptions, Http, Limit, newKey, type Query, type RequestOptions } from "./http.js";
import { answerTo, Chat, type ChatMessage, type ChatOptions, type ChatState, type FollowOptions, respond, type Verdict } from "./chat.js";
import type {
  Answered,
  ChatAnswer,
  Confirmation,
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

  /** A message to a schema, in a new session unless there is a `session_id`; it is sent once its events are read. */
  chat(schema: string, message: ChatMessage, options: ChatOptions = {}): Chat {
    const { tools, onConfirmation, idempotencyKey, signal, timeout, attachments = [], replaces, ...fields } = options;
    const { session_id = "", ...others } = fields;
    const client_tools = tools?.map(({ name, description = "", input_schema }) => ({ name, description, input_schema }));
    const whole = (more: object) =>
      JSON.stringify({
        message,
        ...(replaces ? { ...others, turn_id: replaces } : fields),
        ...(client_tools?.length && { client_tools }),
        ...more,
      });
    const body = async () => whole({ attachments: await Promise.all(attachments.map(attached)) });
    const state = {
      path: replaces ? of(SESSIONS, session_id ?? "", "/edit") : of("/api/v1/schemas", schema, "/chat"),
      body: attachments.length ? "" : whole({}),
      key: idempotencyKey ?? newKey(),
      begun_at: Date.now(),
      session_id: "",
      turn_id: "",
      last_event_id: "",
      ended: false,
    };
    const followed = { signal, timeout, ...(tools && { tools }), ...(onConfirmation && { onConfirmation }) };
    const { subagents, headers, user_sub, response_format } = options;
    const kept = { tools, onConfirmation, subagents, headers, user_sub, response_format };
    const next = (message: ChatMessage, options: ChatOptions) => this.chat(schema, message, { ...present(kept), ...options });
    return new Chat(this.#http, state, followed, idempotencyKey !== undefined, body, next);
  }

  /** Follows a chat behind the last event of its state; with an empty `last_event_id` from its first event. */
  resume(state: ChatState, options: FollowOptions = {}): Chat {
    return new Chat(this.#http, { ...state, ended: state.ended && state.last_event_id !== "" }, options, true);
  }

  /** A request to any route, such as `client.request("GET", "/api/v1/agents")`. */
  async request<Answer = unknown>(method: string, path: string, options: RequestOptions = {}): Promise<Answer> {
    return await this.#http.request(method, path, options);
  }
}

/** The options that are set. */
function present(options: { [Name in keyof ChatOptions]: ChatOptions[Name] | undefined }): ChatOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
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
  answer(id: string, body: TaskInput, options: CallOptions = {}): Promise<Answered> {
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

  /** Lets a call run, or with `input` in place of its arguments; bound to what the question showed. */
  approve(question: Confirmation, more: { input?: Record<string, unknown>; reason?: string } = {}): Promise<Answered> {
    return this.answer(question, { answer: "approve", ...more });
  }

  /** Lets a call not run. */
  reject(question: Confirmation, more: { reason?: string } = {}): Promise<Answered> {
    return this.answer(question, { answer: "reject", ...more });
  }

  answer(question: Confirmation, verdict: Verdict, options: CallOptions = {}): Promise<Answered> {
    const { confirmation_id, ...body } = answerTo({ ...question, confirmation_id: question.id }, verdict);
    const idempotencyKey = newKey();
    return this.#http.request("POST", of(APPROVALS, question.id, "/respond"), { ...options, body, idempotencyKey });
  }
}
