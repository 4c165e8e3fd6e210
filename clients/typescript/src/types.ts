// Written by scripts/client_types.py from the engine's API document (`make docs`): change nothing here.

/** A button; its value, or else its label, is the user's next message. */
export interface Action {
  label: string;
  type: "primary" | "secondary";
  value: string;
}

/**
 * An answer: a word, such as approve or reject, and a reason behind it or in its own field.
 *
 * `input` are arguments that take the place of those that were asked about; a text in them that was left as it was
 * shown stays as it is. `args_digest` is that of the question as it was shown: where there is another, nothing is
 * approved. To a question of kind unknown_outcome the words are retry, mark_done and fail.
 *
 * To an elicitation they are approve, reject and cancel, and `input` is the content of the answer, by `input_schema`.
 */
export interface ApprovalAnswer {
  answers: string[];
  args_digest?: string;
  input?: Record<string, unknown> | null;
  reason?: string;
}

/**
 * What an answer was taken for: the question, and the tool call that it is about.
 *
 * `approved` and `confirmation` are there for a question to a person, `is_error` for a result of the client's tool.
 */
export interface Answered {
  confirmation_id: string;
  call_id: string;
  approved?: boolean;
  confirmation?: Confirmation;
  is_error?: boolean;
  status: string;
}

/** A tool call of the turn. */
export interface CallRecord {
  tool: string;
  input: Record<string, unknown>;
  output: string;
  call_id: string;
  has_error: boolean;
}

/**
 * A turn as a whole, for `stream: false`, or what there is of it.
 *
 * With `needs_input` a person must answer: the `questions` that wait, at /sessions/{id}/respond, or the `form`, by the
 * next message, whereupon the turn is `completed`; or the client sends the results of its `client_calls`. With
 * `queued` it waits behind `position` other messages of its session, and the questions and calls are those of the
 * first. The same Idempotency-Key, and GET /sessions/{id}/turns/{turn_id}, have its end later. `data` is the value of
 * a structured answer, whose JSON is `message`. `agent_version` is the version of the agent that answers.
 */
export interface ChatAnswer {
  session_id: string;
  turn_id: string;
  message: string;
  tool_calls: CallRecord[];
  usage: Usage;
  status: "cancelled" | "completed" | "failed" | "queued" | "running" | "needs_input";
  finish_reason?: "cancelled" | "max_tokens" | "stop" | null;
  data?: unknown;
  questions?: Confirmation[];
  client_calls?: ClientCall[];
  form?: Record<string, unknown> | null;
  position?: number;
  failure?: Failure | null;
  agent_version?: number;
}

/**
 * A message to a schema; without `session_id` it begins a session.
 *
 * The message is a text, or the answers to a form. `attachments` are images and files for models that see them.
 * `on_busy` says what to do while the session answers another message: `steer` puts this one into the turn that runs.
 * With `subagents` the stream carries the events of spawned agents too. `headers` go beside the request's own to the
 * tools that pass some on, by the names that the setting `chat.body_headers` lists. `user_sub` is kept with a new
 * session. `response_format` counts in place of the agent's, null switches that off. `client_tools` are tools that the
 * client runs, where the schema allows them: at an event `client_tool_call` it sends the result to
 * /sessions/{id}/respond.
 */
export interface ChatRequest {
  message: string | FormAnswer;
  attachments?: NewAttachment[];
  session_id?: string | null;
  stream?: boolean;
  on_busy?: "interrupt" | "queue" | "reject" | "steer";
  subagents?: boolean;
  headers?: Record<string, string>;
  user_sub?: string;
  response_format?: ResponseFormat | null;
  client_tools?: NewClientTool[];
}

/** A call of a tool that the client runs, whose result the turn waits for. */
export interface ClientCall {
  turn_id: string;
  call_id: string;
  confirmation_id: string;
  tool: string;
  input: Record<string, unknown>;
  created_at: string;
  expires_at: string | null;
}

/**
 * The turn waits for the result of a tool that the chat request declared: run it and send what it returns.
 *
 * `input` is what the model calls it with, or what a person has put in its place. The result goes to
 * POST /sessions/{session_id}/respond with the `call_id`.
 */
export interface ClientToolCalled {
  session_id: string;
  turn_id: string;
  call_id: string;
  tool: string;
  input: Record<string, unknown>;
  expires_at: string | null;
  agent?: string;
  parent_call_id?: string;
}

/**
 * A question and what became of it.
 *
 * `session_id` is the session that a person sees, also where a sub-agent asks. `source` is where the tool comes from,
 * `risk` how much harm it says that it can do, `input` the arguments that were asked about, `edited` those that a
 * person put in their place, `input_schema` the JSON Schema that the tool had for them; `args_digest` is over the
 * source, the tool and the exact arguments. `spent` is an approval whose call has begun, or a call of the client that
 * has its result, with the verdict mark_done or fail.
 *
 * An `elicitation` comes from the call's source while the call runs: `input` is then what the source says, a `message`
 * and perhaps a `url` with its `host`, `input_schema` the fields of the answer, if any, which the digest covers too,
 * and `edited` the answer. The verdict cancel leaves it unanswered.
 */
export interface Confirmation {
  id: string;
  session_id: string;
  turn_id: string;
  call_id: string;
  kind: "client_tool" | "confirm" | "elicitation" | "unknown_outcome";
  agent: string;
  source: string;
  tool: string;
  risk: "caution" | "dangerous" | "safe";
  input: Record<string, unknown>;
  args_digest: string;
  status: "approved" | "cancelled" | "expired" | "pending" | "rejected" | "spent";
  verdict: "approve" | "cancel" | "fail" | "mark_done" | "reject" | "retry" | null;
  edited: Record<string, unknown> | null;
  reason: string;
  answered_by: string | null;
  answered_at: string | null;
  created_at: string;
  expires_at: string | null;
  input_schema: Record<string, unknown> | null;
}

/**
 * A person is asked about a tool call; an answer names the question by `confirmation_id`, or its call by `call_id`.
 *
 * `session_id` and `turn_id` are those of the person's own turn, also where an agent asks that was spawned in it.
 * `risk` is what the tool says of itself. `args_digest` is SHA-256 in hex over the tool's source, its name and its
 * exact arguments, which `tool_call` has. Here an invisible character in them is shown by its number, as in
 * `[U+202E]`.
 *
 * An `elicitation` comes from the tool's source while the call runs: `input` is what that says, a `message` and
 * perhaps a `url`, and `input_schema` has the fields of the answer, which is sent as `input`. Its words are those of
 * another system: they are not to be trusted.
 *
 * The public view has no `args_digest`, `input`, `kind`, `risk`, `source`, `tool`.
 */
export interface ConfirmationAsked {
  session_id: string;
  turn_id: string;
  confirmation_id: string;
  call_id: string;
  source?: string;
  tool?: string;
  risk?: "caution" | "dangerous" | "safe";
  input?: Record<string, unknown>;
  args_digest?: string;
  kind?: "confirm" | "elicitation" | "unknown_outcome";
  expires_at: string | null;
  input_schema?: Record<string, unknown>;
  agent?: string;
  parent_call_id?: string;
}

/**
 * A question with what a person needs to know to answer it.
 *
 * `agent_version` is the version of the agent that asks, `turn` the number of the person's own turn in the session,
 * `last_user_message` the beginning of its message, and `task_id` the task that it works on.
 */
export interface ConfirmationDetail {
  id: string;
  session_id: string;
  turn_id: string;
  call_id: string;
  kind: "client_tool" | "confirm" | "elicitation" | "unknown_outcome";
  agent: string;
  source: string;
  tool: string;
  risk: "caution" | "dangerous" | "safe";
  input: Record<string, unknown>;
  args_digest: string;
  status: "approved" | "cancelled" | "expired" | "pending" | "rejected" | "spent";
  verdict: "approve" | "cancel" | "fail" | "mark_done" | "reject" | "retry" | null;
  edited: Record<string, unknown> | null;
  reason: string;
  answered_by: string | null;
  answered_at: string | null;
  created_at: string;
  expires_at: string | null;
  input_schema: Record<string, unknown> | null;
  schema: string;
  user_sub: string;
  session_title: string;
  agent_version: number;
  turn: number;
  last_user_message: string;
  task_id: string | null;
}

/**
 * The model answers without so many of the session's oldest messages, and perhaps without the ends of tool results.
 *
 * They are too long for its `window`, in tokens where the vendor has said how many, or could not be summarised.
 */
export interface ContextTrimmed {
  reason: "no_summary" | "too_long";
  messages: number;
  window: number | null;
  agent?: string;
  parent_call_id?: string;
}

/** A new task; `task_id` is another name of its id. */
export interface CreatedTask {
  id: string;
  title: string;
  description: string;
  agent: string;
  agent_name: string;
  schema: string;
  status: "approved" | "cancelled" | "completed" | "draft" | "failed" | "in_progress" | "needs_input" | "pending";
  source: "agent" | "api" | "dashboard" | "schedule" | "webhook";
  mode: "background" | "interactive";
  /** 0 normal, 1 high, 2 critical */
  priority: 0 | 1 | 2;
  acceptance_criteria: string[];
  blocked_by: string[];
  parent_task_id: string | null;
  callback_url: string;
  digest: string;
  session_id: string;
  result: string | null;
  error: string | null;
  attempts: number;
  cost_usd: number | null;
  confirmation_id: string | null;
  created_at: string;
  approved_at: string | null;
  started_at: string | null;
  completed_at: string | null;
  task_id: string;
}

/**
 * The last event of a turn that ended well or was cancelled.
 *
 * `finish_reason` is `max_tokens` where the model came to its token limit in the middle of the answer.
 *
 * The public view has no `usage`.
 */
export interface Done {
  session_id: string;
  turn_id: string;
  usage?: Usage;
  status: "cancelled" | "completed";
  finish_reason: "cancelled" | "max_tokens" | "stop";
  agent?: string;
  parent_call_id?: string;
}

/** A chat's body, whose message comes in place of that of the turn `turn_id`; its session is a new one. */
export interface EditRequest {
  message: string | FormAnswer;
  attachments?: NewAttachment[];
  session_id?: string | null;
  stream?: boolean;
  on_busy?: "interrupt" | "queue" | "reject" | "steer";
  subagents?: boolean;
  headers?: Record<string, string>;
  user_sub?: string;
  response_format?: ResponseFormat | null;
  client_tools?: NewClientTool[];
  turn_id: string;
}

/**
 * The one shape of every refusal; `details` are there where the request itself is at fault.
 *
 * `session_id` and `turn_id` are those of a failed chat. `current` is what there is now where the digest of an
 * approval is that of something else. `retry_after` is the header Retry-After of a rate limit once more.
 */
export interface Refusal {
  error: string;
  message: string;
  details?: Fault[];
  retry_after?: number;
  session_id?: string;
  turn_id?: string;
  current?: Record<string, unknown>;
}

/**
 * The last event of a failed turn; of a stream that failed by itself, where `turn_id` may be empty.
 *
 * Of a stream it has no id: the turn may go on, such as after a restart, and the session's events have its end.
 * `retry_after` is in seconds, where the model's vendor named a wait. The public view has a sentence for the code in
 * place of the message, which may be a vendor's own words.
 */
export interface ErrorEvent {
  session_id: string;
  turn_id: string;
  code: string;
  message: string;
  retry_after?: number;
  agent?: string;
  parent_call_id?: string;
}

/** One event as a JSON page shows it; `at` is null where an older engine, which kept no times, has stored it. */
export interface EventEntry {
  id: number;
  event: string;
  data: unknown;
  at: string | null;
}

/**
 * A page of events; `last` is the number of the session's newest, so there are more while the page ends before.
 *
 * `events` and `data` hold the same rows, `total` is `last`: events are numbered from 1. `epoch` is that of the
 * history, and `next` is the `after` of the page behind, also where nothing is there yet.
 */
export interface EventPage {
  events: EventEntry[];
  data: EventEntry[];
  total: number;
  limit: number;
  last: number;
  epoch: number;
  next: string;
}

/** Why a turn has failed: the code and the sentence of its event `error`. */
export interface Failure {
  error: string;
  message: string;
}

/**
 * One fault in a request: a JSON path such as `$.max_steps`, and what is wrong there.
 *
 * In a configuration file it has its `line` and `column` too, which count from 1.
 */
export interface Fault {
  path: string;
  message: string;
  line?: number;
  column?: number;
}

/** A page of a session's forks, newest first. */
export interface ForkPage {
  data: Session[];
  total: number;
  limit: number;
  offset: number;
  next: string | null;
}

/** `after` is the number of the last event of a turn; without it the fork has the history of all that have ended. */
export interface ForkRequest {
  after?: number | null;
}

/** The session whose history a fork shares, up to the event `after`, the end of a turn; 0: it shares nothing. */
export interface ForkedFrom {
  session_id: string;
  after: number;
}

/** Answers to the last form of the session, by the ids of its questions: a text, a value, or a list of values. */
export interface FormAnswer {
  form: Record<string, unknown>;
}

/** A page of questions, oldest first. */
export interface Inbox {
  data: ConfirmationDetail[];
  total: number;
  limit: number;
  offset: number;
  next: string | null;
}

/** An answer to what a task asks; without `confirmation_id` and `call_id` to the one question that waits. */
export interface TaskInput {
  answers: string[];
  args_digest?: string;
  input?: Record<string, unknown> | null;
  reason?: string;
  confirmation_id?: string;
  call_id?: string;
}

/** The fields of a response format as OpenAI nests them. */
export interface JsonSchemaFormat {
  /** letters, digits, _ and -, at most 64 */
  name?: string;
  description?: string;
  schema: Record<string, unknown>;
  strict?: boolean | null;
}

/** A piece of the answer, to be joined to those before it. */
export interface MessageDelta {
  content: string;
  agent?: string;
  parent_call_id?: string;
}

/** The whole answer: all the turn's deltas joined; `data` is its value if it is a structured one. */
export interface MessageDone {
  content: string;
  role: "assistant";
  data?: unknown;
  agent?: string;
  parent_call_id?: string;
}

/** A page of a session's messages, oldest first; `next` is the number of the last of them. */
export interface MessagePage {
  data: Message[];
  total: number;
  limit: number;
  offset: number;
  next: string | null;
}

/**
 * The engine was stopped in the middle of an answer, and the model now says something else.
 *
 * Or the answer is structured and a step follows: then nothing of the steps before stays.
 *
 * `content` is the turn's text that stays, that of the steps before: clients drop all other pieces of text, and the
 * reasoning since the turn's last tool result. The new pieces follow.
 */
export interface MessageRestarted {
  content: string;
  agent?: string;
  parent_call_id?: string;
}

/** An image or a file: `data` in base64, or a `url` that the vendor fetches. */
export interface NewAttachment {
  /** a media type */
  media_type: string;
  data?: string | null;
  url?: string | null;
  name?: string;
}

/** A tool that the client runs; `input_schema` is a JSON Schema of type object, 32 KB at most. */
export interface NewClientTool {
  /** a name of letters, digits, _ and -, 64 at most */
  name: string;
  description?: string;
  input_schema: Record<string, unknown>;
}

/**
 * A task to create; `blocked_by` are tasks that must be completed first.
 *
 * A `background` task is taken by the engine's workers, an `interactive` one by whoever starts it by hand. With
 * `require_approval` it is a draft until it is approved. `schema` is whose memory and delegations count, and then has
 * the agent. `callback_url` is sent a signed `task.ended` when it has ended, and takes the scope `tasks:callback`.
 */
export interface NewTask {
  /** lower-case letters, digits, dots, dashes */
  agent: string;
  title: string;
  description?: string;
  schema?: string;
  mode?: "background" | "interactive";
  /** 0 normal, 1 high, 2 critical */
  priority?: 0 | 1 | 2;
  acceptance_criteria?: string[];
  blocked_by?: string[];
  parent_task_id?: string | null;
  require_approval?: boolean;
  /** an http or https URL, without a user and password: it is shown */
  callback_url?: string;
}

/**
 * Something that a person may want to know; `names` are what it is about.
 *
 * `code` says what: `tools_awaited` and `tools_missing` are about sources of the agent's tools, `gate_unmatched` about
 * names in its `confirm_before`, `client_tools_hidden` about tools of the client that the agent has by the same names,
 * `budget_near` about a budget that is almost used up, `authorization_required` about MCP servers that the person
 * has to authorize first.
 */
export interface Notice {
  code: string;
  message: string;
  names: string[];
  agent?: string;
  parent_call_id?: string;
}

/** One choice of a select or multiselect; without a value it stands for its label. */
export interface Option {
  label: string;
  value: string;
}

/** One field of a form; a select or multiselect has 2 to 5 options, a text has none. */
export interface Question {
  /** what the answer is found under */
  id: string;
  label: string;
  type: "multiselect" | "select" | "text";
  options: Option[];
  /** an option's value, or some text */
  default?: string | string[];
}

/**
 * The message waits until so many others of its session are answered; it comes again when that changes.
 *
 * With `needs_input` the first of them waits for a person. It has no id, for it is no event of the session.
 */
export interface Queued {
  session_id: string;
  turn_id: string;
  position: number;
  needs_input: boolean;
  agent?: string;
  parent_call_id?: string;
}

/**
 * What a final answer is: JSON that is valid against `schema`, a JSON Schema (draft 2020-12), or any `text`.
 *
 * `name`, `description` and `strict` are for vendors that take them. OpenAI's form, with these fields in
 * `json_schema`, is read and becomes this one.
 */
export interface ResponseFormat {
  type: "json_schema" | "text";
  /** letters, digits, _ and -, at most 64 */
  name?: string;
  description?: string;
  schema?: Record<string, unknown>;
  strict?: boolean | null;
  json_schema?: JsonSchemaFormat | null;
}

/** A line of a table. */
export interface Row {
  label: string;
  value: string | number | boolean;
}

/** A conversation; its status is that of its last turn. */
export interface Session {
  id: string;
  agent: string;
  schema: string;
  title: string;
  status: "active" | "cancelled" | "completed" | "failed";
  user_sub: string;
  created_at: string;
  updated_at: string;
  message_count: number;
  forked_from: ForkedFrom | null;
}

/**
 * An answer within a session to the question `confirmation_id`, or to the one about the tool call `call_id`.
 *
 * `call_id` may be the question's id too. Where both are there they name one question. To a question it is as the
 * answer to an approval. To a call of a tool that the client runs it is the `result`, a text or any JSON, with
 * `is_error` where the tool failed; it has no `answers` then.
 */
export interface SessionAnswer {
  confirmation_id?: string;
  call_id?: string;
  answers?: string[];
  args_digest?: string;
  input?: Record<string, unknown> | null;
  reason?: string;
  result?: unknown;
  is_error?: boolean;
}

/**
 * A session with its newest messages and the tokens of all its turns; `summary` is of what no longer fits a model.
 *
 * They are a thousand at most, and a megabyte; `earlier_messages` come before them: `/messages` has those too.
 * `client_calls` wait for the results of tools that the client runs.
 */
export interface SessionDetail {
  id: string;
  agent: string;
  schema: string;
  title: string;
  status: "active" | "cancelled" | "completed" | "failed";
  user_sub: string;
  created_at: string;
  updated_at: string;
  message_count: number;
  forked_from: ForkedFrom | null;
  usage: Usage;
  summary: Summary | null;
  messages: Message[];
  earlier_messages: number;
  client_calls: ClientCall[];
}

/** A page of sessions; `sessions` and `data` hold the same rows, `next` is the `after` of the page behind. */
export interface SessionPage {
  data: SessionRow[];
  total: number;
  limit: number;
  offset: number;
  next: string | null;
  page: number;
  per_page: number;
  total_pages: number;
  sessions: SessionRow[];
}

/**
 * A session in a list; `needs_input` says that somebody must answer a question before it goes on.
 *
 * `turns` and `cost_usd` are of all its own turns; `last_turn_ms` and `error_code` are of the last of them, the first
 * null while it runs, the second empty unless it failed.
 */
export interface SessionRow {
  id: string;
  agent: string;
  schema: string;
  title: string;
  status: "active" | "cancelled" | "completed" | "failed";
  user_sub: string;
  created_at: string;
  updated_at: string;
  message_count: number;
  forked_from: ForkedFrom | null;
  needs_input: boolean;
  turns: number;
  last_turn_ms: number | null;
  error_code: string;
  cost_usd: number | null;
}

/**
 * A message has come for the turn that runs, which absorbs it at its next boundary: see `steered`.
 *
 * `turn_id` is the id that the request got. A turn that ends first leaves the message to a turn of that id.
 */
export interface Steer {
  turn_id: string;
  message: string;
  agent?: string;
  parent_call_id?: string;
}

/** From here on the model has the message of the `steer` event with this `turn_id`; the turn goes on with it. */
export interface Steered {
  turn_id: string;
  agent?: string;
  parent_call_id?: string;
}

/**
 * A message as clients read it; `broken_off` says how its turn ended where the answer did not come to its end.
 *
 * It is `invalid` for an answer that the response format does not allow, which the next one replaces. `turn_id` is the
 * turn that a message belongs to: one that steered a turn belongs to that.
 */
export interface Message {
  id: string;
  turn_id: string;
  role: string;
  content: string;
  created_at: string;
  thinking?: string;
  tool_calls?: Record<string, unknown>[];
  tool?: string;
  call_id?: string;
  has_error?: boolean;
  broken_off?: string;
  attachments?: Record<string, string>[];
}

/** A block for the client to render; values that the model left out are filled in from their labels. */
export interface StructuredOutput {
  agent?: string;
  parent_call_id?: string;
  call_id: string;
  output_type: "form" | "info" | "table";
  title?: string;
  description?: string;
  rows?: Row[];
  actions?: Action[];
  questions?: Question[];
}

/**
 * Older turns of the session were replaced by a summary for the model; the session keeps all messages.
 *
 * `messages` of so many `turns` went into the summary, through the message number `through`. `tokens_before` is an
 * estimate of what they and the summary before took, `tokens_after` of what the summary takes.
 *
 * The public view has no `model`, `through`, `tokens_after`, `tokens_before`.
 */
export interface Summarised {
  messages: number;
  turns: number;
  through?: number;
  tokens_before?: number;
  tokens_after?: number;
  model?: string;
  agent?: string;
  parent_call_id?: string;
}

/** What the model has in place of the session's oldest messages, those up to the number `through`. */
export interface Summary {
  content: string;
  through: number;
  created_at: string;
}

/**
 * A task; `result` and `error` say how it ended, `session_id` is where it is worked on.
 *
 * It needs input while questions of its session wait, first that of `confirmation_id`. `agent_name` is `agent`.
 * `digest` is over what a person approves: title, description, criteria, agent, schema, mode, blockers. A task that is
 * or was to be approved shows invisible characters as `[U+202E]`. `cost_usd` is of the turns of a background task.
 */
export interface Task {
  id: string;
  title: string;
  description: string;
  agent: string;
  agent_name: string;
  schema: string;
  status: "approved" | "cancelled" | "completed" | "draft" | "failed" | "in_progress" | "needs_input" | "pending";
  source: "agent" | "api" | "dashboard" | "schedule" | "webhook";
  mode: "background" | "interactive";
  /** 0 normal, 1 high, 2 critical */
  priority: 0 | 1 | 2;
  acceptance_criteria: string[];
  blocked_by: string[];
  parent_task_id: string | null;
  callback_url: string;
  digest: string;
  session_id: string;
  result: string | null;
  error: string | null;
  attempts: number;
  cost_usd: number | null;
  confirmation_id: string | null;
  created_at: string;
  approved_at: string | null;
  started_at: string | null;
  completed_at: string | null;
}

/**
 * A page of tasks, newest first; `tasks` and `data` hold the same rows, `next` is the `after` of the page behind.
 *
 * It ends early where its rows have more than a megabyte of text.
 */
export interface TaskPage {
  data: Task[];
  total: number;
  limit: number;
  offset: number;
  next: string | null;
  page: number;
  per_page: number;
  total_pages: number;
  tasks: Task[];
}

/**
 * Changes to a task that has not ended; what is left out stays, and so does the agent once the task has begun.
 *
 * A change to what a person has approved takes the task back to draft.
 */
export interface TaskPatch {
  /** lower-case letters, digits, dots, dashes */
  agent?: string;
  title?: string;
  description?: string;
  /** 0 normal, 1 high, 2 critical */
  priority?: 0 | 1 | 2;
  acceptance_criteria?: string[];
  blocked_by?: string[];
}

/** A piece of the model's reasoning, to be joined to those before it. */
export interface Thinking {
  content: string;
  agent?: string;
  parent_call_id?: string;
}

/** A tool's result, or what went wrong with it. */
export interface ToolFinished {
  tool: string;
  output: string;
  call_id: string;
  has_error: boolean;
  agent?: string;
  parent_call_id?: string;
}

/** A tool is about to run with these arguments. */
export interface ToolStarted {
  tool: string;
  input: Record<string, unknown>;
  call_id: string;
  agent?: string;
  parent_call_id?: string;
}

/**
 * Tokens of one or more model calls; `thinking_tokens` are part of the output.
 *
 * `cached_tokens`, which came out of a vendor's cache, and `cache_write_tokens`, which went into it, are of the input.
 *
 * `cost_usd` is of the calls whose price is known, and None where no price is; a provider leaves it so.
 */
export interface Usage {
  input_tokens: number;
  output_tokens: number;
  cached_tokens: number;
  thinking_tokens: number;
  cache_write_tokens: number;
  cost_usd: number | null;
}

/** The bearer token of one visitor, with the scope chat and sessions, memories and limits of the visitor's own. */
export interface VisitorToken {
  access_token: string;
  expires_at: string;
  visitor: string;
  token_type: string;
}

/** One event of a stream; `id` is its number in the session, empty for what has none (`queued`). */
export interface Frame<Name extends string, Data> {
  id: string;
  event: Name;
  data: Data;
}

/** The events that the engine and its bundled plugins send; `event` says which. */
export type KnownEvent =
  | Frame<"thinking", Thinking>
  | Frame<"message_delta", MessageDelta>
  | Frame<"message_restart", MessageRestarted>
  | Frame<"message", MessageDone>
  | Frame<"tool_call", ToolStarted>
  | Frame<"tool_result", ToolFinished>
  | Frame<"notice", Notice>
  | Frame<"confirmation", ConfirmationAsked>
  | Frame<"client_tool_call", ClientToolCalled>
  | Frame<"queued", Queued>
  | Frame<"steer", Steer>
  | Frame<"steered", Steered>
  | Frame<"summarised", Summarised>
  | Frame<"context_trimmed", ContextTrimmed>
  | Frame<"error", ErrorEvent>
  | Frame<"done", Done>
  | Frame<"structured_output", StructuredOutput>
  | never;

/** Their names. */
export const EVENT_NAMES = [
  "thinking",
  "message_delta",
  "message_restart",
  "message",
  "tool_call",
  "tool_result",
  "notice",
  "confirmation",
  "client_tool_call",
  "queued",
  "steer",
  "steered",
  "summarised",
  "context_trimmed",
  "error",
  "done",
  "structured_output",
] as const;
