// What was looked at last in this tab, for the palette.

/** @typedef {{ url: string, words: string, icon: string }} Seen */

const KEY = "bytebrew.recent";
const MOST = 6;

/** @returns {Seen[]} the last one first */
export const recent = () => JSON.parse(sessionStorage.getItem(KEY) ?? "[]");

/** Remembers a thing with a page of its own. @param {Seen} one */
export function remember(one) {
  const others = recent().filter(({ url }) => url !== one.url);
  sessionStorage.setItem(KEY, JSON.stringify([one, ...others].slice(0, MOST)));
}
