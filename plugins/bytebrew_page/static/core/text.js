// Text of models, tools and users as a reader must see it: what hides or turns text around is named.
import { html } from "../vendor/lit-html/lit-html.js";

/** Direction marks, zero width, controls, variation selectors, tags, spaces that look like others, lone surrogates. */
const ODD =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|[\udb40-\udb43][\udc00-\udfff]|\ud82f[\udca0-\udca3]|\ud834[\udd73-\udd7a]/g;
const MARK = /\[U\+([0-9A-F]{4,6})\]/g;
/** So many hidden characters of a text get an element of their own; the engine's marks name those behind them. */
const MOST_MARKED = 2000;
/** @type {Record<number, string>} */
const NAMES = {
  0x00a0: "NBSP",
  0x00ad: "SHY",
  0x200b: "ZWSP",
  0x200c: "ZWNJ",
  0x200d: "ZWJ",
  0x200e: "LRM",
  0x200f: "RLM",
  0x202a: "LRE",
  0x202b: "RLE",
  0x202c: "PDF",
  0x202d: "LRO",
  0x202e: "RLO",
  0x2060: "WJ",
  0x2066: "LRI",
  0x2067: "RLI",
  0x2068: "FSI",
  0x2069: "PDI",
  0xfeff: "BOM",
};
const WORD = /[\p{L}\p{N}]+/gu;
/** @type {[string, RegExp][]} */
const SCRIPTS = [
  ["Latin", /\p{Script=Latin}/u],
  ["Cyrillic", /\p{Script=Cyrillic}/u],
  ["Greek", /\p{Script=Greek}/u],
];

/** How many characters of a text hide, or turn others around. @param {string} text */
export const oddCount = (text) => (text.match(ODD) ?? []).length;

/** @param {string} character */
function named(character) {
  const code = character.codePointAt(0) ?? 0;
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

/** A text with the engine's marks, such as `[U+202E]`, for such characters: what a field may hold. @param {string} text */
export const marked = (text) =>
  text.replace(/\[(?=U\+[0-9A-F]{4,6}\])/g, "[U+005B]").replace(ODD, (hidden) => `[${named(hidden)}]`);

/** The value that the engine's marks stand for, in all its texts and keys. @param {any} value @returns {any} */
export function exact(value) {
  if (typeof value === "string") return value.replace(MARK, (mark, code) => character(mark, Number.parseInt(code, 16)));
  if (Array.isArray(value)) return value.map(exact);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [exact(name), exact(one)]));
}

/** @param {string} mark @param {number} code */
const character = (mark, code) => (code <= 0x10ffff ? String.fromCodePoint(code) : mark);

/** A text in which each such character is named, and each word that mixes scripts underlined. @param {unknown} value */
export function shown(value) {
  const text = String(value);
  const parts = [];
  let last = 0;
  let count = 0;
  for (const hit of text.matchAll(ODD)) {
    if (hit.index > last) parts.push(...mixed(text.slice(last, hit.index)));
    if (++count > MOST_MARKED) return [...parts, marked(text.slice(hit.index))];
    const code = named(hit[0]);
    const name = NAMES[hit[0].codePointAt(0) ?? 0] ?? code;
    parts.push(html`<span class="odd" title="hidden character ${code}">${name}</span>`);
    last = hit.index + hit[0].length;
  }
  parts.push(...mixed(text.slice(last)));
  return parts;
}

/** A sequence that Unicode has as one emoji, whose joiners hide nothing; spaces that typography has between words. */
const HARMLESS = new RegExp("\\p{RGI_Emoji}|[\u00a0\u202f]", "gv");

/** A text that people and models say to each other: as `shown`, but for what belongs to an emoji. @param {unknown} value */
export function talk(value) {
  const text = String(value);
  if (!suspicious(text)) return [text];
  const parts = [];
  let last = 0;
  for (const hit of text.matchAll(HARMLESS)) {
    if (hit.index > last) parts.push(...shown(text.slice(last, hit.index)));
    parts.push(hit[0]);
    last = hit.index + hit[0].length;
  }
  parts.push(...shown(text.slice(last)));
  return parts;
}

/** Whether a text has anything to be named or underlined. @param {string} text */
export const suspicious = (text) => oddCount(text) > 0 || /[\u0370-\u052f]/.test(text);

/** @param {string} text @returns {unknown[]} */
function mixed(text) {
  if (!/[\u0370-\u052f]/.test(text)) return [text];
  /** @type {unknown[]} */
  const parts = [];
  let last = 0;
  for (const hit of text.matchAll(WORD)) {
    const found = SCRIPTS.filter(([, test]) => test.test(hit[0])).map(([name]) => name);
    if (found.length < 2) continue;
    parts.push(text.slice(last, hit.index));
    parts.push(html`<span class="mixed" title="mixes ${found.join(" and ")}">${hit[0]}</span>`);
    last = hit.index + hit[0].length;
  }
  parts.push(text.slice(last));
  return parts;
}

const TOKEN = /("(?:\\.|[^"\\])*")(\s*:)?|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\btrue\b|\bfalse\b|\bnull\b/g;
const MOST_COLOURED = 20_000;

/** A value as indented JSON, coloured unless it is long, every hidden character named. @param {unknown} value */
export function json(value) {
  const text = JSON.stringify(value, null, 2) ?? "";
  if (text.length > MOST_COLOURED) return shown(text);
  const parts = [];
  let last = 0;
  for (const hit of text.matchAll(TOKEN)) {
    parts.push(text.slice(last, hit.index));
    if (hit[2]) parts.push(html`<span class="k">${shown(hit[1])}</span>`, hit[2]);
    else parts.push(html`<span class=${hit[1] ? "s" : /^[tfn]/.test(hit[0]) ? "l" : "n"}>${shown(hit[0])}</span>`);
    last = hit.index + hit[0].length;
  }
  parts.push(text.slice(last));
  return parts;
}
