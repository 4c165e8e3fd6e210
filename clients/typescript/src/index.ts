export {
  type Chat,
  type ChatMessage,
  type ChatOptions,
  type ChatState,
  type ClientTool,
  type Decision,
  type FollowOptions,
  type Verdict,
} from "./chat.js";
export { Client } from "./client.js";
export {
  APIError,
  ByteBrewError,
  Conflict,
  ConnectionLost,
  Forbidden,
  Gone,
  InputNeeded,
  InvalidRequest,
  NotFound,
  RateLimited,
  TimedOut,
  TurnFailed,
  Unauthorized,
  Unavailable,
} from "./errors.js";
export type { ChatEvent, UnknownEvent } from "./events.js";
export type { CallOptions, ClientOptions, Query, RequestOptions, TokenSource } from "./http.js";
export * from "./types.js";
export { type TokenStore, visitorToken } from "./visitors.js";
