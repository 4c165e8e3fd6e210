import { ConnectionLost, lost, NotFound, refusal, TimedOut, Unauthorized } from "./errors.js";
import { Retry } from "./retry.js";

/** Has the token of a request; called again, with the token that was refused, after a 401. */
export type TokenSource = (refused?: string) => string | Promise<string>;

/** How a client reaches an engine. Times are in milliseconds. */
export interface ClientOptions {
  /** The engine's address, such as `https://agents.example`; a path before `/api/v1` is kept. */
  url: string;
  /** A bearer token, or a function that has one for each request; see `visitorToken`. */
  token?: string | TokenSource;
  /** Headers of every request, such as a caller's own key. */
  headers?: Record<string, string>;
  /** Limit of a call that is no turn, and longer than `retryFor`; 180,000. */
  timeout?: number;
  /** How long a request is tried again while the engine cannot be reached or has too much to do; 120,000. */
  retryFor?: number;
  /** How long a stream may be silent before it counts as lost; 45,000, as the engine sends a heartbeat each 15 seconds. */
  silence?: number;
  /** In place of the global `fetch`. */
  fetch?: typeof fetch;
}

/** Of one call. */
export interface CallOptions {
  signal?: AbortSignal | undefined;
  /** Limit in milliseconds. */
  timeout?: number | undefined;
}

/** Parameters of a query string; those that are undefined are left out. */
export type Query = Record<string, string | number | boolean | undefined>;

/** A request to any route of the engine. */
export interface RequestOptions extends CallOptions {
  query?: Query | undefined;
  body?: unknown;
  headers?: Record<string, string>;
  /** For routes that take it: with a key the request is sent again after a lost connection, and counts once. */
  idempotencyKey?: string;
}

/** The requests of a client. */
export class Http {
  readonly retryFor: number;
  readonly silence: number;
  readonly #url: string;
  readonly timeout: number;

  constructor(readonly options: ClientOptions) {
    this.#url = new URL(options.url).href.replace(/\/+$/, "");
    this.timeout = options.timeout ?? 180_000;
    this.retryFor = options.retryFor ?? 120_000;
    this.silence = options.silence ?? 45_000;
  }

  /** The JSON of an answer, undefined for an empty one; tries again as long as that is safe and may help. */
  async request<Answer>(method: string, path: string, options: RequestOptions = {}): Promise<Answer> {
    const limit = new Limit(options.signal, options.timeout ?? this.timeout);
    const retry = new Retry(this.retryFor);
    const headers = { ...options.headers, ...(options.idempotencyKey && { "Idempotency-Key": options.idempotencyKey }) };
    const body = options.body === undefined ? undefined : JSON.stringify(options.body);
    try {
      for (;;) {
        try {
          const response = await this.open(method, path, { ...options, headers, body, signal: limit.signal });
          const text = await response.text().catch(lost);
          return (text ? JSON.parse(text) : undefined) as Answer;
        } catch (error) {
          limit.signal.throwIfAborted();
          if (method === "DELETE" && retry.tries && error instanceof NotFound) return undefined as Answer;
          if (error instanceof ConnectionLost && method === "POST" && !options.idempotencyKey) throw error;
          await retry.wait(error, limit.signal);
        }
      }
    } finally {
      limit.end();
    }
  }

  /** One request; throws APIError for an answer that is none, ConnectionLost where there is no answer. */
  async open(
    method: string,
    path: string,
    sent: { query?: Query | undefined; body?: string | undefined; headers?: Record<string, string>; signal: AbortSignal },
  ): Promise<Response> {
    const { token } = this.options;
    const bearer = typeof token === "function" ? await token() : token;
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(sent.query ?? {})) if (value !== undefined) query.set(name, `${value}`);
    const url = `${this.#url}${path}${query.size ? `?${query}` : ""}`;
    const { body = null, signal } = sent;
    const fetched = async (bearer: string | undefined) => {
      const headers = {
        ...this.options.headers,
        ...(bearer && { Authorization: `Bearer ${bearer}` }),
        ...(body !== null && { "Content-Type": "application/json" }),
        ...sent.headers,
      };
      const get = this.options.fetch ?? fetch;
      const response = await get(url, { method, headers, body, signal }).catch(lost);
      if (!response.ok) throw await refusal(response);
      return response;
    };
    try {
      return await fetched(bearer);
    } catch (error) {
      if (!(error instanceof Unauthorized && typeof token === "function")) throw error;
      const other = await token(bearer);
      if (other === bearer) throw error;
      return await fetched(other);
    }
  }
}

/** A new Idempotency-Key. (`crypto.randomUUID` is there only in pages of https and of localhost.) */
export function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The end of a call: by its time limit, by the caller's signal, or by `abort`. */
export class Limit {
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal | undefined;
  readonly #timer: ReturnType<typeof setTimeout> | undefined;
  readonly signal = this.#controller.signal;

  constructor(outer: AbortSignal | undefined, timeout?: number) {
    this.#outer = outer;
    if (outer?.aborted) this.abort(outer.reason);
    outer?.addEventListener("abort", this.#follow);
    if (timeout !== undefined) {
      const words = `The call took longer than its ${timeout} ms`;
      this.#timer = setTimeout(() => this.abort(new TimedOut(words)), timeout);
    }
  }

  abort(reason: unknown): void {
    this.#controller.abort(reason);
  }

  /** Frees the timer and the caller's signal. */
  end(): void {
    clearTimeout(this.#timer);
    this.#outer?.removeEventListener("abort", this.#follow);
  }

  readonly #follow = () => this.abort(this.#outer?.reason);
}
