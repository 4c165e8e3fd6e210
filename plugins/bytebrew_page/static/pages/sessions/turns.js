// The choice among a session's turns.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { ms } from "../../core/format.js";
import { go } from "../../core/router.js";

/** @typedef {import("../../../api.ts").TurnRow} TurnRow */

const SEGMENTS = 6;
/** So many turns around the chosen one are in the list, with the first and the last of the session. */
const AROUND = 100;

/** The milliseconds between two moments. @param {string} from @param {string} until */
export const since = (from, until) => new Date(until).getTime() - new Date(from).getTime();

/** How long a turn took, its wait included; null while it goes on. @param {TurnRow} turn */
export const took = (turn) => (turn.ended_at ? since(turn.queued_at, turn.ended_at) : null);

/** @param {TurnRow[]} turns @param {TurnRow | undefined} chosen */
function near(turns, chosen) {
  const at = chosen ? turns.indexOf(chosen) : turns.length;
  return turns.filter((_, n) => Math.abs(n - at) <= AROUND || n === 0 || n === turns.length - 1);
}

/**
 * A few turns are side by side, more in a list; each is an address.
 * @param {TurnRow[]} turns @param {TurnRow | undefined} chosen @param {(number: number) => string} at
 */
export function turnsOf(turns, chosen, at) {
  if (turns.length < 2) return "";
  if (turns.length > SEGMENTS) {
    return html`<select
      aria-label="Turn"
      class="turns"
      @change=${(/** @type {Event} */ event) => go(at(Number(/** @type {HTMLSelectElement} */ (event.target).value)))}
    >
      ${near(turns, chosen).map(
        (turn) =>
          html`<option value=${turn.number} ?selected=${turn === chosen}>
            Turn ${turn.number} of ${turns.length}, ${ms(took(turn))}${turn.status === "failed" ? ", failed" : ""}
          </option>`,
      )}
    </select>`;
  }
  return html`<div class="seg" role="group" aria-label="Turn">
    ${turns.map(
      (turn) =>
        html`<a href=${at(turn.number)} aria-current=${turn === chosen ? "true" : nothing}
          >Turn ${turn.number} <span class="meta hide-s">${turn.ended_at ? ms(took(turn)) : "not ended"}</span></a
        >`,
    )}
  </div>`;
}
