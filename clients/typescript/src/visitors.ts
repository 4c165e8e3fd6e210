import { type ClientOptions, Http } from "./http.js";
import type { VisitorToken } from "./types.js";

/** Where a visitor's token is kept: `localStorage` for example. */
export interface TokenStore {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

const EARLY = 60_000; // a token is renewed this long before it expires

/**
 * The `token` of a client in a public page: each visitor's own.
 *
 * `options.token` is the page's, one with the scope `public` alone. With a `store` a visitor stays the same over visits.
 */
export function visitorToken(options: ClientOptions & { token: string; store?: TokenStore }): () => Promise<string> {
  const http = new Http(options);
  const key = `bytebrew-visitor:${options.url}`;
  let current: Promise<VisitorToken> | undefined;

  async function renewed(): Promise<VisitorToken> {
    const stored = options.store?.getItem(key);
    const kept = stored ? (JSON.parse(stored) as VisitorToken) : undefined;
    if (kept && !isOver(kept)) return kept;
    const body = kept ? { access_token: kept.access_token } : {};
    const fresh = await http.request<VisitorToken>("POST", "/api/v1/auth/visitors", { body });
    options.store?.setItem(key, JSON.stringify(fresh));
    return fresh;
  }

  return async () => {
    current ??= renewed();
    try {
      const token = await current;
      return isOver(token) ? (await (current = renewed())).access_token : token.access_token;
    } catch (error) {
      current = undefined;
      throw error;
    }
  };
}

function isOver(token: VisitorToken): boolean {
  return Date.parse(token.expires_at) - EARLY < Date.now();
}
