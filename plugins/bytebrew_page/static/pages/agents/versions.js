// The versions of an agent beside its form, and the comparison of two of them.
import { html } from "../../vendor/lit-html/lit-html.js";
import { ago, whole } from "../../core/format.js";
import { go, to } from "../../core/router.js";
import { shown } from "../../core/text.js";
import { changes } from "../../parts/diff.js";
import { time } from "../../parts/head.js";
import { tag } from "../../parts/state.js";
import { differing, valueOf, wordsOf } from "./form.js";

/** @typedef {import("../../../api.ts").Version} Version */
/** @typedef {import("./form.js").Content} Content */

export const DRAFT = "draft";
const MOST = 3;

/** The sides of `?diff=v13..v14`; null if it names none. @param {string} text */
export function sides(text) {
  const found = /^v(\d+)\.\.(?:v(\d+)|draft)$/.exec(text);
  return found && { before: Number(found[1]), after: found[2] ? Number(found[2]) : DRAFT };
}

/** @param {string} name @param {number} before @param {number | string} after */
export const comparison = (name, before, after) =>
  to`/agents/${name}?diff=` + `v${before}..${after === DRAFT ? DRAFT : `v${after}`}`;

/** What a version did, in words. @param {Version} version */
function did({ action, changed, restores }) {
  if (action === "create") return "made";
  if (action === "rollback") return `back to v${restores}`;
  if (action === "delete") return "deleted";
  const names = changed.map(wordsOf);
  return names.length > MOST ? `${names.slice(0, MOST).join(", ")} and ${names.length - MOST} more` : names.join(", ");
}

/**
 * @param {string} name
 * @param {{ data: Version[], next: string | null }} page
 * @param {{ n: number, draft: string[], seen: ReturnType<typeof sides>, roll: ((n: number) => void) | null, more: () => void }} how
 *   `draft` are its changed fields; `roll` rolls back to a version
 */
export const versions = (name, page, { n, draft, seen, roll, more }) =>
  html`<aside class="versions" aria-label="Versions">
    <h2>Versions</h2>
    <ol>
      ${
        draft.length
          ? html`<li class="draft">
              <b>Draft</b>
              <div>${draft.map(wordsOf).join(", ")}</div>
              <div class="row wrap"><span class="meta">not saved</span></div>
            </li>`
          : ""
      }
      ${page.data.map(
        (one) =>
          html`<li class=${one.number === n ? "now" : seen?.before === one.number ? "seen" : ""}>
            <div class="row wrap">
              <b class="t">v${one.number}</b>
              ${one.number === n ? tag("live") : ""}
            </div>
            <div>${did(one)}</div>
            <div class="meta">${time(one.moment, ago, whole)} · ${shown(one.actor)}</div>
            ${
              one.number === n || one.action === "delete"
                ? ""
                : html`<div class="row acts">
                    <a href=${comparison(name, one.number, n)}>Compare</a>
                    ${
                      roll
                        ? html`<button class="as-link" type="button" @click=${() => roll(one.number)}>
                            Roll back<span class="sr"> to v${one.number}</span>
                          </button>`
                        : ""
                    }
                  </div>`
            }
          </li>`,
      )}
    </ol>
    ${page.next ? html`<button class="btn" type="button" @click=${more}>Older versions</button>` : ""}
  </aside>`;

/** A side of a comparison: what it is called, when and by whom it was made, and its content. */
/** @typedef {{ title: string, note: string, content: Content }} Side */

/** Two versions: the prompt side by side, then each other field. @param {Side} one @param {Side} other */
export function compared(one, other) {
  const fields = differing(one.content, other.content);
  const rest = fields.filter((field) => field !== "system");
  const side = (/** @type {Side} */ { title, note, content }) => ({ title, note, text: content.system ?? "" });
  if (!fields.length) return html`<p class="meta">${one.title} and ${other.title} are the same.</p>`;
  return html`
    ${
      fields.includes("system")
        ? html`<bb-diff .was=${side(one)} .now=${side(other)}></bb-diff>`
        : html`<p class="meta">The prompt is the same.</p>`
    }
    ${
      rest.length
        ? changes(
            rest.map((field) => ({ field, before: one.content[field], after: other.content[field] })),
            { before: one.title, after: other.title },
          )
        : ""
    }
  `;
}

/**
 * The choice of the versions to compare.
 * @param {string} name @param {Version[]} known @param {NonNullable<ReturnType<typeof sides>>} chosen @param {boolean} draft whether there is one
 */
export function sidesChoice(name, known, chosen, draft) {
  const numbers = known.filter((one) => one.action !== "delete").map((one) => one.number);
  const select = (/** @type {"before" | "after"} */ which, /** @type {(number | string)[]} */ options) =>
    html`<select
      aria-label=${which === "before" ? "From" : "To"}
      @change=${(/** @type {Event} */ event) => {
        const value = valueOf(event) === DRAFT ? DRAFT : Number(valueOf(event));
        const [before, after] = which === "before" ? [value, chosen.after] : [chosen.before, value];
        go(comparison(name, Number(before), after), { replace: true });
      }}
    >
      ${options.map(
        (one) =>
          html`<option value=${one} ?selected=${one === chosen[which]}>${one === DRAFT ? "draft" : `v${one}`}</option>`,
      )}
    </select>`;
  const all = (/** @type {number | string} */ one) => (one === DRAFT || numbers.includes(Number(one)) ? [] : [one]);
  return html`<div class="row sides">
    ${select("before", [...all(chosen.before), ...numbers])} <span aria-hidden="true">→</span>
    ${select("after", [...(draft || chosen.after === DRAFT ? [DRAFT] : []), ...all(chosen.after), ...numbers])}
  </div>`;
}
