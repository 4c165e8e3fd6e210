// The client of the REST API: what every page asks and changes goes through here.
import { token } from "./session.js";

/** A refusal, with the status, the engine's code and words, and the paths of what is wrong in the request. */
export class ApiError extends Error {
  /**
   * @param {number} status 0 if the engine did not answer at all
   * @param {{ error?: string, message?: string, details?: { path: string, message: string, line?: number, column?: number }[], [more: string]: any }} body
   */
  constructor(status, body) {
    super(body.message ?? "The engine does not answer");
    this.status = status;
    this.code = body.error ?? "";
    this.details = body.details ?? [];
    this.body = body;
  }
}

/** Events of the connection: `unauthorized` with what is to be called once somebody has signed in, `lost`, `answered`, `back`. */
export const connection = new EventTarget();

/** @type {Promise<void> | null} */
let signingIn = null;

/** Waits until somebody has signed in; all requests wait for the same. */
function signedIn() {
  signingIn ??= new Promise((resolve) => {
    const done = () => {
      signingIn = null;
      resolve();
    };
    connection.dispatchEvent(new CustomEvent("unauthorized", { detail: done }));
  });
  return signingIn;
}

/**
 * @typedef {object} Options
 * @property {Record<string, string | number | boolean | null | undefined>} [query] empty values are left out
 * @property {any} [json] the body
 * @property {BodyInit} [body] a body that is not JSON
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal]
 */

/** A path with its parameters; those without a value are left out. @param {string} path @param {Options["query"]} query */
export function address(path, query = {}) {
  const kept = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(kept.map(([name, value]) => [name, String(value)])).toString();
  return `/api/v1${path}${text ? `?${text}` : ""}`;
}

/**
 * An answer of the API, whatever its type. A 401 waits for somebody to sign in, and is then asked again.
 * @param {string} method
 * @param {string} path behind `/api/v1`
 * @param {Options} options
 * @returns {Promise<Response>}
 * @throws {ApiError}
 */
export async function request(method, path, options = {}) {
  if (signingIn) await signingIn;
  /** @type {Record<string, string>} */
  const headers = { ...options.headers };
  const sent = token();
  if (sent) headers.authorization = `Bearer ${sent}`;
  if (options.json !== undefined) headers["content-type"] = "application/json";
  const body = options.json !== undefined ? JSON.stringify(options.json) : options.body;
  let response;
  try {
    response = await fetch(address(path, options.query), { method, headers, body, signal: options.signal });
  } catch (error) {
    if (/** @type {Error} */ (error).name === "AbortError") throw error;
    connection.dispatchEvent(new CustomEvent("lost"));
    throw new ApiError(0, {});
  }
  connection.dispatchEvent(new CustomEvent("answered"));
  if (response.ok) return response;
  const refusal = await response.json().catch(() => ({ message: `The engine answers ${response.status}` }));
  if (response.status !== 401) throw new ApiError(response.status, refusal);
  if (token() === sent) await signedIn();
  return request(method, path, options);
}

/** @param {string} method @param {string} path @param {Options} options @returns {Promise<any>} */
async function json(method, path, options) {
  const response = await request(method, path, options);
  return response.status === 204 ? null : response.json();
}

/** The API; each call gives the decoded answer, null for a 204. */
export const api = {
  /** @param {string} path @param {Options["query"]} [query] @param {AbortSignal} [signal] */
  get: (path, query, signal) => json("GET", path, { query, signal }),
  /** @param {string} path @param {any} [body] @param {Options} [options] */
  post: (path, body, options = {}) => json("POST", path, { ...options, json: body }),
  /** @param {string} path @param {any} body @param {Options} [options] */
  put: (path, body, options = {}) => json("PUT", path, { ...options, json: body }),
  /** @param {string} path @param {any} body @param {Options} [options] */
  patch: (path, body, options = {}) => json("PATCH", path, { ...options, json: body }),
  /** @param {string} path @param {Options} [options] */
  delete: (path, options = {}) => json("DELETE", path, options),
};

/** A part of a path. @param {string} text */
export const part = (text) => encodeURIComponent(text);

/** A new Idempotency-Key: a request that is sent again with it is carried out once. */
export const newKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
