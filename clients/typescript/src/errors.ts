import type { ChatAnswer, Fault, Refusal } from "./types.js";

/** What every error of this client is. */
export class ByteBrewError extends Error {
  override name = "ByteBrewError";
}

/**
 * An answer in the engine's one shape of errors.
 *
 * `code` says which, `details` name the faults of the request by path, `requestId` is what the engine's log has.
 * `retryAfter` is in seconds, where the answer has the header. `body` is the whole answer.
 */
export class APIError extends ByteBrewError {
  override name = "APIError";
  readonly code: string;
  readonly details: readonly Fault[];
  readonly sessionId: string;
  readonly turnId: string;

  constructor(
    readonly status: number,
    readonly body: Refusal,
    readonly requestId: string,
    readonly retryAfter: number | undefined,
  ) {
    const faults = (body.details ?? []).map((one) => `${one.path}: ${one.message}`).join("; ");
    super(`${body.error}: ${body.message}${faults && ` (${faults})`}`);
    this.code = body.error;
    this.details = body.details ?? [];
    this.sessionId = body.session_id ?? "";
    this.turnId = body.turn_id ?? "";
  }
}

/** 400 or 422: the request is malformed, or cannot mean what it says; see `details`. */
export class InvalidRequest extends APIError {
  override name = "InvalidRequest";
}

/** 401: no credential, or one that is not valid. */
export class Unauthorized extends APIError {
  override name = "Unauthorized";
}

/** 403: the credential does not allow this. */
export class Forbidden extends APIError {
  override name = "Forbidden";
}

/** 404: there is no such thing, or none that the caller may know of. */
export class NotFound extends APIError {
  override name = "NotFound";
}

/** 409: the state of what is there does not allow it. */
export class Conflict extends APIError {
  override name = "Conflict";
}

/** 410: its time is over; with the code `history_changed` a database was restored, and events are to be read anew. */
export class Gone extends APIError {
  override name = "Gone";
}

/** 429: too many requests. */
export class RateLimited extends APIError {
  override name = "RateLimited";
}

/** 503: the engine stops, or has too much to do. */
export class Unavailable extends APIError {
  override name = "Unavailable";
}

/** The turn has failed: its event `error`. `retryAfter` is in seconds, where a vendor named a wait. */
export class TurnFailed extends ByteBrewError {
  override name = "TurnFailed";

  constructor(
    readonly code: string,
    message: string,
    readonly sessionId: string,
    readonly turnId: string,
    readonly retryAfter: number | undefined,
  ) {
    super(`${code}: ${message}`);
  }
}

/** A person must answer before the turn goes on: the `questions` of the `answer` so far. */
export class InputNeeded extends ByteBrewError {
  override name = "InputNeeded";

  constructor(readonly answer: ChatAnswer) {
    super("A person must answer first: see the questions of the answer, and approve and reject of the chat");
  }
}

/** The engine could not be reached, or its answer broke off; `cause` is what the network said. */
export class ConnectionLost extends ByteBrewError {
  override name = "ConnectionLost";
}

/** The call took longer than its `timeout`; a turn goes on in the engine. */
export class TimedOut extends ByteBrewError {
  override name = "TimedOut";
}

const BY_STATUS: Record<number, typeof APIError> = {
  400: InvalidRequest,
  401: Unauthorized,
  403: Forbidden,
  404: NotFound,
  409: Conflict,
  410: Gone,
  422: InvalidRequest,
  429: RateLimited,
  503: Unavailable,
};

/** The error of an answer that is none; an answer without the engine's shape is a proxy's, with the code `http_...`. */
export async function refusal(response: Response): Promise<APIError> {
  const { status, headers } = response;
  const text = await response.text().catch(() => "");
  let body: Refusal = { error: `http_${status}`, message: text.slice(0, 500) || response.statusText || "no answer" };
  try {
    const parsed = JSON.parse(text);
    if (typeof parsed?.error === "string" && typeof parsed.message === "string") body = parsed;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  const kind = BY_STATUS[status] ?? APIError;
  return new kind(status, body, headers.get("x-request-id") ?? "", seconds(headers.get("retry-after") ?? ""));
}

/** The seconds of a Retry-After header, which has a number or a date (RFC 9110, section 10.2.3). */
function seconds(retryAfter: string): number | undefined {
  const wait = /^\d/.test(retryAfter) ? Number.parseFloat(retryAfter) : (Date.parse(retryAfter) - Date.now()) / 1000;
  return Number.isNaN(wait) ? undefined : Math.max(0, wait);
}

/** Throws what the network said as ConnectionLost. */
export function lost(cause: unknown): never {
  if (cause instanceof ByteBrewError) throw cause;
  const detail = cause instanceof Error ? ((cause.cause as Error | undefined)?.message ?? cause.message) : `${cause}`;
  throw new ConnectionLost(`The engine does not answer: ${detail}`, { cause });
}

/** Whether the same request may succeed a moment later. */
export function passes(error: unknown): boolean {
  if (error instanceof ConnectionLost) return true;
  if (!(error instanceof APIError)) return false;
  if (error.status === 503) return true;
  if (error.status === 429) return error.retryAfter !== undefined;
  return [502, 504].includes(error.status) && error.code === `http_${error.status}`; // a proxy's, while the engine starts
}
