export { type ChatMessage, type ChatOptions, Client } from "./client.js";
export {
  ApiError,
  BytebrewError,
  Conflict,
  ConnectionLost,
  Forbidden,
  Gone,
  InvalidRequest,
  NotFound,
  RateLimited,
  TimedOut,
  TurnFailed,
  Unauthorized,
  Unavailable,
} from "./errors.js";
export type { ChatEvent, UnknownEvent } from "./events.js";
export type { CallOptions, ClientOptions, Query, RequestOptions } from "./http.js";
export type { ClientTool, Decision, Turn, TurnOptions, TurnState, Verdict } from "./turn.js";
export * from "./types.js";
export { type TokenStore, visitorToken } from "./visitors.js";
