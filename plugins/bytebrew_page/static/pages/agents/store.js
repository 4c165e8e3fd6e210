// What the editor of an agent reads and writes: the agent as its newest version has it, and what it may name.
import { api, request } from "../../core/api.js";
import { may } from "../../core/caller.js";
import { to } from "../../core/router.js";

/** @typedef {import("./form.js").Content} Content */
/** @typedef {import("../../../api.ts").AgentDetail} Detail */
/** @typedef {import("../../../api.ts").WholeVersion} WholeVersion */
/** The agent at a version: the number is its ETag. @typedef {{ n: number, content: Content, detail: Detail }} Base */

/** @param {string | null} tag */
const numberIn = (tag) => Number((tag ?? "0").replaceAll('"', ""));

/** The number of the newest version. @param {string} name @param {AbortSignal} [signal] */
export async function newest(name, signal) {
  const response = await request("GET", to`/agents/${name}`, { signal });
  return { n: numberIn(response.headers.get("etag")), detail: /** @type {Detail} */ (await response.json()) };
}

/** @param {string} name @param {number} n @param {AbortSignal} [signal] @returns {Promise<WholeVersion>} */
export const version = (name, n, signal) => api.get(to`/agents/${name}/versions/${String(n)}`, {}, signal);

/** @param {string} name @param {AbortSignal} [signal] @returns {Promise<Base>} */
export async function load(name, signal) {
  const { n, detail } = await newest(name, signal);
  const { content } = await version(name, n, signal);
  return { n, detail, content: /** @type {Content} */ (content) };
}

/** Saves the fields that changed, unless somebody has saved a version since; gives the number of the new one. @param {string} name @param {Content} json @param {number} n */
export async function save(name, json, n) {
  const response = await request("PUT", to`/agents/${name}`, { json, headers: { "if-match": `"${n}"` } });
  return numberIn(response.headers.get("etag"));
}

/** @param {string} name @param {number} n @returns {Promise<import("../../../api.ts").RolledBack>} */
export const rollBack = (name, n) => api.post(to`/agents/${name}/rollback`, { version: n });

/** @param {string} name @param {number} n */
export const remove = (name, n) => api.delete(to`/agents/${name}`, { headers: { "if-match": `"${n}"` } });

/** What an agent may name; a list that the token may not read, or whose plugin is off, is undefined. @param {AbortSignal} signal */
export async function surroundings(signal) {
  /** @param {string[]} pair @returns {Promise<any>} */
  const list = async ([path, scope]) => (may(scope) ? api.get(path, {}, signal).catch(() => undefined) : undefined);
  const [models, tools, agents, servers, schemas] = await Promise.all(
    [
      ["/models", "models:read"],
      ["/tools/metadata", "agents:read"],
      ["/agents", "agents:read"],
      ["/mcp-servers", "mcp:read"],
      ["/schemas", "schemas:read"],
    ].map(list),
  );
  return { models, tools, agents, servers, schemas };
}
