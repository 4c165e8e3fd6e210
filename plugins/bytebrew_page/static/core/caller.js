// Who is signed in, and what the token allows: pages draw no button that it cannot use.
import { api } from "./api.js";

/** @typedef {import("../../api.ts").Caller} Caller */

/** @type {Caller | null} */
let known = null;

/** Asks the engine who is signed in. @param {AbortSignal} [signal] */
export async function learn(signal) {
  known = await api.get("/auth/whoami", {}, signal);
}

/** Who is signed in; null before the engine has said so. */
export const caller = () => known;

/** Whether the token has one of the scopes; the engine itself decides where that is not known. @param {...string} scopes */
export const may = (...scopes) =>
  !known || known.scopes.includes("admin") || scopes.some((scope) => known?.scopes.includes(scope));
