// How far the first steps have come: kept in this tab, so that a reload goes on; the key is in memory alone.

const KEY = "bytebrew.first-steps";

/**
 * What was chosen, and the names of what was made.
 * @typedef {object} Progress
 * @property {string} vendor
 * @property {string} address
 * @property {string} model_name
 * @property {string} model the name under which the model is stored; it is chosen before that is done
 * @property {boolean} tools whether the model calls tools
 * @property {string} agent
 * @property {string} schema
 * @property {string} prompt
 * @property {string[]} made `agent` and `schema`, as soon as they were asked for
 */

/** @type {Progress} */
const FRESH = {
  vendor: "",
  address: "",
  model_name: "",
  model: "",
  tools: true,
  agent: "helper",
  schema: "help",
  prompt: "You are brief and kind. Say so when you do not know.",
  made: [],
};

/** @returns {Progress} */
export const recall = () => ({ ...FRESH, ...JSON.parse(sessionStorage.getItem(KEY) ?? "{}") });

/** @param {Progress} progress */
export const keep = (progress) => sessionStorage.setItem(KEY, JSON.stringify(progress));

/** Forgets it: the steps are done. */
export const forget = () => sessionStorage.removeItem(KEY);
