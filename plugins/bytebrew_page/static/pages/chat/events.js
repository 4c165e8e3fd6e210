// The panel beside a chat: the numbered events that it is made of, and what the turn has used.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { guard } from "../../vendor/lit-html/directives/guard.js";
import { ref } from "../../vendor/lit-html/directives/ref.js";
import { repeat } from "../../vendor/lit-html/directives/repeat.js";
import { int, ms, short, usd } from "../../core/format.js";
import { to } from "../../core/router.js";
import { json, shown } from "../../core/text.js";
import { excerpt } from "./log.js";

/** @typedef {import("./conversation.js").Conversation} Conversation */
/** @typedef {import("./log.js").Row} Row */

/** Lists that a reader has scrolled away from their end. @type {WeakSet<Element>} */
const left = new WeakSet();

/** @param {Event} event */
function scrolled(event) {
  const list = /** @type {Element} */ (event.target);
  if (list.scrollHeight - list.scrollTop - list.clientHeight < 60) left.delete(list);
  else left.add(list);
}

/** Keeps the newest event in sight; it is another function with each drawing, or it would be called once. */
const toEnd = () => (/** @type {Element | undefined} */ list) =>
  requestAnimationFrame(() => list && !left.has(list) && (list.scrollTop = list.scrollHeight));

/** Rows whose JSON is shown. @type {WeakSet<Row>} */
const open = new WeakSet();

/** @param {Conversation} conversation @param {() => void} update draws it again */
export function events(conversation, update) {
  const { log, id } = conversation;
  const turn = conversation.turns.at(-1);
  const { usage, sentAt = 0, firstAt = 0 } = turn ?? {};
  return html`
    <div class="bar">
      <h2>Events</h2>
      <span class="meta"
        >${log.last ? `last ${log.last}, ${log.gaps ? "some are missing" : "no gaps"}` : "none yet"}</span
      >
    </div>
    <ol aria-label="Events" tabindex="0" @scroll=${scrolled} ${ref(toEnd())}>
      ${repeat(
        log.rows,
        (row) => row.first,
        (row) => guard([row.events.length, open.has(row)], () => line(row, update)),
      )}
    </ol>
    <div class="foot">
      <div class="row">
        <span class="meta grow">This turn</span>
        <span>
          ${
            usage
              ? html`${int(usage.input_tokens)} in · ${int(usage.output_tokens)} out · ${price(usage)}`
              : turn
                ? "not ended"
                : "–"
          }
        </span>
      </div>
      <div class="row">
        <span class="meta grow">First token</span><span>${firstAt && sentAt ? ms(firstAt - sentAt) : "–"}</span>
      </div>
      <div class="row">
        <span class="meta grow">Session</span>
        ${id ? html`<a class="mono" href=${to`/sessions/${id}`}>${short(id)}</a>` : "not begun"}
      </div>
    </div>
  `;
}

/** @param {import("../../../api.ts").Usage} usage */
const price = ({ cost_usd }) =>
  cost_usd === null ? html`<span title="No price is known of its model">no price</span>` : usd(cost_usd);

/** @param {Row} row @param {() => void} update */
function line(row, update) {
  /** @param {Event} event */
  const toggle = (event) => {
    if (/** @type {HTMLDetailsElement} */ (event.target).open) open.add(row);
    else open.delete(row);
    update();
  };
  return html`<li class=${row.event}>
    <details @toggle=${toggle}>
      <summary>
        <span class="i">${row.first}</span><span class="e clip">${row.event}</span>
        <span class="p clip">${shown(excerpt(row))}</span>
      </summary>
      ${
        open.has(row)
          ? html`<pre tabindex="0">
${row.events.slice(0, 50).map(({ id, data }) => html`${id} ${json(data)} `)}${row.events.length > 50 ? `and ${row.events.length - 50} more` : nothing}</pre>`
          : nothing
      }
    </details>
  </li>`;
}
