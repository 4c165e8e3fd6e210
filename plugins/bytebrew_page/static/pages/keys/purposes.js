// What keys are made for: each purpose has its scopes, an end, and lines that use the key.
import { to } from "../../core/router.js";

/**
 * @typedef {object} Purpose
 * @property {string} id
 * @property {string} words
 * @property {string} why
 * @property {string[]} scopes
 * @property {string} days until it expires, "" for never
 * @property {(schema: string, token: string) => [string, string]} lines a title, and what uses the token
 */

const origin = location.origin;

/** @param {string} token @param {string} call */
const curl = (token, call) => `export BYTEBREW_TOKEN=${token}\n\n${call}`;

/** @param {string} schema @param {string} token @returns {[string, string]} */
const chat = (schema, token) => [
  "curl",
  curl(
    token,
    `curl -N ${origin}${to`/api/v1/schemas/${schema}/chat`} \\\n  -H "Authorization: Bearer $BYTEBREW_TOKEN" \\\n  -H "Content-Type: application/json" \\\n  -d '{"message": "Hello"}'`,
  ),
];

/** @param {string} path @returns {Purpose["lines"]} */
const get = (path) => (_, token) => [
  "curl",
  curl(token, `curl ${origin}/api/v1${path} \\\n  -H "Authorization: Bearer $BYTEBREW_TOKEN"`),
];

/** @param {string} schema @param {string} token @returns {[string, string]} */
const tag = (schema, token) => [
  "HTML",
  `<script type="module" src="${origin}/widget.js"></script>\n<bytebrew-chat schema="${schema}" token="${token}"></bytebrew-chat>`,
];

/** @type {Purpose[]} */
export const PURPOSES = [
  {
    id: "website",
    words: "Website chat",
    why: "It stands in a page that everybody can read. The visitors of that page chat, and see answers alone.",
    scopes: ["public"],
    days: "",
    lines: tag,
  },
  {
    id: "server",
    words: "Server",
    why: "A program of yours, which chats for its users and gives tasks to agents.",
    scopes: ["chat", "tasks"],
    days: "365",
    lines: chat,
  },
  {
    id: "ci",
    words: "CI",
    why: "A pipeline that brings the configuration file into the engine.",
    scopes: ["config"],
    days: "90",
    lines: get("/config/export"),
  },
  {
    id: "operator",
    words: "Operator",
    why: "A person or a script that may do everything, for all callers.",
    scopes: ["admin"],
    days: "30",
    lines: get("/agents"),
  },
  {
    id: "custom",
    words: "Custom",
    why: "The scopes that you choose.",
    scopes: [],
    days: "90",
    lines: get("/auth/whoami"),
  },
];

/** The purpose with exactly these scopes, else the custom one. @param {Set<string>} scopes */
export const purposeOf = (scopes) =>
  PURPOSES.find((one) => one.scopes.length === scopes.size && one.scopes.every((name) => scopes.has(name))) ??
  PURPOSES[PURPOSES.length - 1];
