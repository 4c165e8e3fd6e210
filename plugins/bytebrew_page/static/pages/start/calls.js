// What the first steps ask of the API: each makes a thing or changes the one that it has made, so a reload makes no two.
import { api, part } from "../../core/api.js";

/** @typedef {import("../../../api.ts").Model} Model */
/** @typedef {import("../../../api.ts").Verification} Verification */

/**
 * Stores something, or changes it if it is there.
 * @param {string} path such as `/models`
 * @param {string} name
 * @param {Record<string, any>} body
 * @param {boolean} ours whether one with this name was made by these steps
 */
export async function put(path, name, body, ours) {
  const found = ours ? await api.get(path) : [];
  const there = (found.data ?? found).some((/** @type {{ name: string }} */ one) => one.name === name);
  if (there) return api.patch(`${path}/${part(name)}`, body);
  return api.post(path, { name, ...body }, { headers: { "idempotency-key": crypto.randomUUID() } });
}

/** A name that no model has. @param {string} wanted */
export async function freeName(wanted) {
  /** @type {Model[]} */
  const models = await api.get("/models");
  const taken = new Set(models.map((one) => one.name));
  let name = wanted;
  for (let n = 2; taken.has(name); n++) name = `${wanted}-${n}`;
  return name;
}

/** @param {string} name @returns {Promise<Verification>} */
export const verify = (name) => api.post(`/models/${part(name)}/verify`);

/** Whether Ollama answers on the engine's machine. @returns {Promise<boolean>} */
export async function ollamaAnswers() {
  const tried = await api.post("/models/verify", { type: "ollama", model_name: "none" }).catch(() => null);
  return tried?.steps?.[0]?.ok === true;
}

/**
 * The same calls as lines for a shell.
 * @param {import("./progress.js").Progress} progress
 */
export function curl({ vendor, address, model_name, model, agent, schema, prompt }) {
  const line = (/** @type {string} */ path, /** @type {any} */ body) =>
    `curl ${location.origin}/api/v1${path} -H "Authorization: Bearer $BYTEBREW_TOKEN"${
      body ? ` \\\n  --json '${JSON.stringify(body).replaceAll("'", `'\\''`)}'` : " -X POST"
    }`;
  const name = model || "my-model";
  /** @type {Record<string, any>} */
  const made = { name, type: vendor || "anthropic", model_name: model_name || "claude-sonnet-4-6", api_key: "..." };
  if (address) made.base_url = address;
  return [
    line("/models", { ...made, is_default: true }),
    line(`/models/${name}/verify`, null),
    line("/agents", { name: agent, model: name, system: prompt, tools: ["current_time"] }),
    line("/schemas", { name: schema, entry_agent: agent, chat_enabled: true }),
    line(`/schemas/${schema}/chat`, { message: "What time is it?" }),
  ].join("\n\n");
}
