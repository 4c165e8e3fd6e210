// Who is signed in: the token of this tab, which is in memory and in sessionStorage, and in no address.

const KEY = "bytebrew.token";
const LOCAL = "/api/v1/auth/local-session";

/** What a tab knows of its token; `expires_at` is null for an API token, which this page does not refresh. */
/** @typedef {{ token: string, expires_at: string | null }} Credential */

/** @type {Credential | null} */
let current = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

/** Dispatches `changed` after each change of the token. */
export const sessions = new EventTarget();

/** The bearer token of requests, "" if nobody is signed in. */
export const token = () => current?.token ?? "";

/** Keeps a token, and refreshes a local session at 80 % of its life. @param {Credential | null} credential */
export function keep(credential) {
  current = credential;
  if (credential) sessionStorage.setItem(KEY, JSON.stringify(credential));
  else sessionStorage.removeItem(KEY);
  sessions.dispatchEvent(new Event("changed"));
  clearTimeout(timer);
  if (!credential?.expires_at) return;
  const left = new Date(credential.expires_at).getTime() - Date.now();
  timer = setTimeout(() => refresh(credential), Math.max(1000, left * 0.8));
}

/** Takes the one-time token out of the address before anything else reads that. */
export function takeLink() {
  const found = new URLSearchParams(location.hash.slice(1)).get("t");
  if (found === null) return null;
  history.replaceState(history.state, "", location.pathname + location.search);
  return found;
}

/** Opens a local session with the token of the link that the engine printed. @param {string} link */
export async function signIn(link) {
  const response = await fetch(LOCAL, { method: "POST", headers: { authorization: `Bearer ${link}` } });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message);
  keep({ token: answer.access_token, expires_at: answer.expires_at });
}

/** @param {Credential} credential */
async function refresh(credential) {
  const headers = { authorization: `Bearer ${credential.token}` };
  const response = await fetch(`${LOCAL}/refresh`, { method: "POST", headers }).catch(() => null);
  if (current !== credential) return;
  if (!response?.ok) return; // the next request finds out, and asks the person
  const answer = await response.json();
  keep({ token: answer.access_token, expires_at: answer.expires_at });
}

keep(current);
