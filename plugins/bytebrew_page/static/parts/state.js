// States and risks: a shape, a word and a colour, always all three.
import { html, svg } from "../vendor/lit-html/lit-html.js";

const TICK = svg`<path d="M3 8.500l3.300 3.300L13 5"></path>`;
const DASHED = svg`<circle cx="8" cy="8" r="5.500" stroke-dasharray="2.500 3"></circle>`;
const DIAMOND = svg`<path d="M8 1.800L14.200 8 8 14.200 1.800 8z" fill="currentColor"></path>`;
const CROSSED = svg`<rect x="2" y="2" width="12" height="12" rx="2"></rect><path d="M5.500 5.500l5 5M10.500 5.500l-5 5"></path>`;
const ARC = svg`<circle cx="8" cy="8" r="5.500" opacity=".3"></circle><path class="arc" d="M8 2.500a5.500 5.500 0 0 1 5.500 5.500"></path>`;
const STRUCK = svg`<circle cx="8" cy="8" r="5.500"></circle><path d="M4.500 11.500l7-7"></path>`;
const LOCK = svg`<rect x="3" y="7" width="10" height="7" rx="1.500"></rect><path d="M5.500 7V5a2.500 2.500 0 0 1 5 0v2"></path>`;
const TRIANGLE = svg`<path d="M8 2L14.500 13.500H1.500z"></path><path d="M8 6.500v3.200M8 11.700v.01"></path>`;
const DOTTED = svg`<circle cx="8" cy="8" r="5.500"></circle><path d="M8 5.500V8.500M8 10.800v.01"></path>`;

/** Each state of the engine's: its class, its shape and its word. @type {Record<string, [string, unknown, string]>} */
const STATES = {
  running: ["running", ARC, "running"],
  active: ["running", ARC, "running"],
  in_progress: ["running", ARC, "in progress"],
  waiting: ["waiting", DIAMOND, "needs an answer"],
  needs_input: ["waiting", DIAMOND, "needs an answer"],
  failed: ["failed", CROSSED, "failed"],
  completed: ["completed", TICK, "completed"],
  ok: ["ok", TICK, "ok"],
  queued: ["queued", DASHED, "queued"],
  pending: ["queued", DASHED, "pending"],
  approved: ["queued", DASHED, "approved"],
  draft: ["queued", DASHED, "draft"],
  cancelled: ["cancelled", STRUCK, "cancelled"],
  withheld: ["withheld", LOCK, "withheld"],
  alert: ["alert", TRIANGLE, "attention"],
  unverified: ["unverified", DOTTED, "not verified"],
};

/** A state by its name; other words where the page has better ones. @param {string} name @param {unknown} [words] */
export function state(name, words) {
  const [kind, shape, word] = STATES[name] ?? ["queued", DASHED, name];
  return html`<span class="state ${kind}"
    ><svg viewBox="0 0 16 16" aria-hidden="true">${shape}</svg>${words ?? word}</span
  >`;
}

/** How much harm a tool can do. @param {string} name safe, caution or dangerous */
export const risk = (name) => html`<span class="risk ${name}">${name}</span>`;

/** A short fact beside a name. @param {unknown} words */
export const tag = (words) => html`<span class="tag">${words}</span>`;
