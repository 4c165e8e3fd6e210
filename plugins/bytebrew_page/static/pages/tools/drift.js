// What has changed in a tool since a person approved it: facts from both definitions, without a guess at intent.

/** @typedef {import("../../../api.ts").ShownTool} ShownTool */
/** @typedef {{ head: string, rest: string }} Fact */

/** Invisible characters, which the engine shows by their numbers. */
const HIDDEN = /\[U\+[0-9A-F]{4,6}\]/g;

/** A value with the keys of its objects in order: servers send them in any. @param {any} value @returns {any} */
const sorted = (value) =>
  Array.isArray(value)
    ? value.map(sorted)
    : value && typeof value === "object"
      ? Object.fromEntries(
          Object.keys(value)
            .sort()
            .map((key) => [key, sorted(value[key])]),
        )
      : value;

/** A definition as the text that is compared. @param {{ description: string | null, input_schema: any, annotations: any }} definition */
export const asText = ({ description, input_schema, annotations }) =>
  `${description ?? ""}\n\n${JSON.stringify(sorted(annotations ? { input_schema, annotations } : { input_schema }), null, 2)}`;

/** @param {any} schema @returns {Record<string, any>} */
const parametersOf = (schema) => (schema?.properties && typeof schema.properties === "object" ? schema.properties : {});
/** @param {any} schema @returns {string[]} */
const requiredOf = (schema) => (Array.isArray(schema?.required) ? schema.required : []);
const same = (/** @type {unknown} */ a, /** @type {unknown} */ b) =>
  JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
const count = (/** @type {number} */ n, /** @type {string} */ one) => `${n} ${n === 1 ? one : `${one}s`}`;

/** How many hidden characters a definition has. @param {unknown} definition */
export const hiddenIn = (definition) => (JSON.stringify(definition ?? null).match(HIDDEN) ?? []).length;

/** @param {ShownTool} tool @returns {Fact[]} */
export function facts(tool) {
  const was = tool.approved;
  const hidden = hiddenIn([tool.name, tool.description, tool.input_schema]);
  /** @type {Fact[]} */
  const found = [];
  if (was?.input_schema)
    found.push(...parameters(was.input_schema, tool.input_schema), ...annotations(was.annotations, tool.annotations));
  if (typeof was?.description === "string") found.push(...description(was.description, tool.description));
  if (hidden) found.push({ head: count(hidden, "hidden character"), rest: " in the definition, shown by number" });
  return found;
}

/** @param {any} was @param {any} now @returns {Fact[]} */
function parameters(was, now) {
  const [before, after] = [parametersOf(was), parametersOf(now)];
  const needed = new Set(requiredOf(now));
  const needs = new Set(requiredOf(was));
  const fresh = Object.keys(after).filter((name) => !(name in before));
  const gone = Object.keys(before).filter((name) => !(name in after));
  const kept = Object.keys(after).filter((name) => name in before);
  return [
    ...fresh.filter((name) => needed.has(name)).map((name) => fact("A new parameter is required: ", name)),
    ...fresh.filter((name) => !needed.has(name)).map((name) => fact("A new parameter: ", name)),
    ...kept.filter((name) => needed.has(name) && !needs.has(name)).map((name) => fact("Now required: ", name)),
    ...kept.filter((name) => !needed.has(name) && needs.has(name)).map((name) => fact("No longer required: ", name)),
    ...kept
      .filter((name) => !same(before[name], after[name]))
      .map((name) => fact("A parameter is defined otherwise: ", name)),
    ...gone.map((name) => fact("A parameter is gone: ", name)),
  ];
}

/** @param {Record<string, any> | null} was @param {Record<string, any> | null} now @returns {Fact[]} */
function annotations(was, now) {
  const names = [...new Set([...Object.keys(was ?? {}), ...Object.keys(now ?? {})])];
  const say = (/** @type {unknown} */ value) => (value === undefined ? "not said" : JSON.stringify(value));
  return names
    .filter((name) => !same(was?.[name], now?.[name]))
    .map((name) => {
      const worse = name === "readOnlyHint" && was?.[name] === true;
      return fact(
        worse ? "No longer read only: " : "An annotation: ",
        `${name} ${say(was?.[name])} → ${say(now?.[name])}`,
      );
    });
}

/** @param {string} was @param {string} now @returns {Fact[]} */
function description(was, now) {
  if (was === now) return [];
  const words = (/** @type {string} */ text) => text.split(/\s+/).filter(Boolean).length;
  const more = words(now) - words(was);
  if (!more) return [fact("Its description is another one: ", "as long as before")];
  return [
    fact(
      more > 0 ? "Its description is longer: " : "Its description is shorter: ",
      `${count(Math.abs(more), "word")} ${more > 0 ? "more" : "fewer"}`,
    ),
  ];
}

/** @param {string} head @param {string} rest @returns {Fact} */
const fact = (head, rest) => ({ head, rest });
