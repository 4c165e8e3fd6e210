// The filters of sessions: each is a parameter of the address.
import { html } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { shown } from "../../core/text.js";

export const FILTERS = ["q", "schema", "agent", "status", "user", "error", "tool", "from", "to"];
/** @type {[string, string][]} */
const STATES = [
  ["", "Any state"],
  ["running", "Running"],
  ["needs_input", "Needs an answer"],
  ["completed", "Completed"],
  ["failed", "Failed"],
  ["cancelled", "Cancelled"],
];
/** @type {[string, string][]} */
const RANGES = [
  ["", "Any time"],
  ["1h", "Last hour"],
  ["24h", "Last 24 hours"],
  ["7d", "Last 7 days"],
  ["30d", "Last 30 days"],
];
/** @type {[string, string][]} */
const SORTS = [
  ["", "Latest activity"],
  ["created", "Newest"],
];

/** What the API is asked for at an address. @param {URLSearchParams} query */
export function queryOf(query) {
  const { user, from, sort, ...same } = Object.fromEntries(
    [...FILTERS, "sort"].map((name) => [name, query.get(name) ?? ""]),
  );
  return { ...same, user_sub: user, from: moment(from), sort: sort === "created" ? "" : "updated" };
}

/** A range such as 24h as the moment when it began; another text as it is. @param {string} range */
function moment(range) {
  const found = /^(\d+)([hd])$/.exec(range);
  if (!found) return range;
  const hours = Number(found[1]) * (found[2] === "d" ? 24 : 1);
  const minute = Math.floor(Date.now() / 60_000) - hours * 60; // whole minutes, so that pages go on from one another
  return new Date(minute * 60_000).toISOString();
}

/**
 * @param {URLSearchParams} query
 * @param {{ schemas: string[], agents: string[] }} names
 * @param {(changes: Record<string, string>) => void} change
 */
export function filters(query, names, change) {
  const has = (/** @type {string} */ name) => query.get(name) ?? "";
  const pills = [
    ...["user", "error", "tool", "to"].filter(has),
    ...(has("from") && !RANGES.some(([value]) => value === has("from")) ? ["from"] : []),
  ];
  return html`<form class="filters" role="search" @submit=${(/** @type {Event} */ event) => event.preventDefault()}>
    <input
      type="search"
      name="q"
      placeholder="Title, user, id, or words of a message"
      aria-label="Search sessions"
      data-search
      .value=${live(has("q"))}
      @input=${(/** @type {InputEvent} */ event) => later(event, change)}
    />
    ${select("Schema", "schema", named("Any schema", names.schemas), has("schema"), change)}
    ${select("Agent", "agent", named("Any agent", names.agents), has("agent"), change)}
    ${select("State", "status", STATES, has("status"), change)} ${select("When", "from", RANGES, has("from"), change)}
    ${select("Order", "sort", SORTS, has("sort"), change)}
    ${pills.map(
      (name) =>
        html`<span class="pill"
          >${name}: ${shown(has(name))}
          <button type="button" aria-label="Remove the filter ${name}" @click=${() => change({ [name]: "" })}>×</button>
        </span>`,
    )}
  </form>`;
}

/** @param {string} any @param {string[]} names @returns {[string, string][]} */
const named = (any, names) => [["", any], ...names.map((name) => /** @type {[string, string]} */ ([name, name]))];

/**
 * A choice; a value of a link that is none of the known ones stays, and says so.
 * @param {string} label @param {string} name @param {[string, string][]} options @param {string} value
 * @param {(changes: Record<string, string>) => void} change
 */
function select(label, name, options, value, change) {
  const all =
    options.some(([one]) => one === value) || name === "from" ? options : [...options, [value, `${value} (unknown)`]];
  return html`<select
    name=${name}
    aria-label=${label}
    .value=${live(value)}
    @change=${(/** @type {Event} */ event) => change({ [name]: /** @type {HTMLSelectElement} */ (event.target).value })}
  >
    ${all.map(([one, words]) => html`<option value=${one} ?selected=${one === value}>${words}</option>`)}
  </select>`;
}

let timer = 0;

/** Searches once the reader pauses. @param {InputEvent} event @param {(changes: Record<string, string>) => void} change */
function later(event, change) {
  const { value } = /** @type {HTMLInputElement} */ (event.target);
  clearTimeout(timer);
  timer = window.setTimeout(() => change({ q: value.trim() }), 200);
}
