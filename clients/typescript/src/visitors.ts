import { type ClientOptions, Http, type TokenSource } from "./http.js";
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
export function visitorToken(options: ClientOptions & { token: string; store?: TokenStore }): TokenSource {
  const http = new Http(options);
  const key = `bytebrew-visitor:${options.url}`;
  let current: Promise<VisitorToken> | undefined;

  async function visit(known: VisitorToken | undefined): Promise<VisitorToken> {
    const body = known ? { access_token: known.access_token } : {};
    const fresh = await http.request<VisitorToken>("POST", "/api/v1/auth/visitors", { body });
    options.store?.setItem(key, JSON.stringify(fresh));
    return fresh;
  }

  /** The token that is kept, renewed if it is soon over; that of a new visitor without one, or where it was refused. */
  async function first(refused: string | undefined): Promise<VisitorToken> {
    const stored = options.store?.getItem(key);
    const kept = stored ? (JSON.parse(stored) as VisitorToken) : undefined;
    if (!kept || kept.access_token === refused || isOver(kept, 0)) return await visit(undefined);
    return isOver(kept, EARLY) ? await visit(kept) : kept;
  }

  return async (refused) => {
    current ??= first(undefined);
    try {
      const token = await current;
      if (token.access_token === refused || isOver(token, EARLY)) current = first(refused);
      return (await current).access_token;
    } catch (error) {
      current = undefined;
      throw error;
    }
  };
}

function isOver(token: VisitorToken, early: number): boolean {
  return Date.parse(token.expires_at) - early < Date.now();
}
