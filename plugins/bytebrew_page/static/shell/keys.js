// The keyboard: what the page does at a key, and the list of it.
import { html } from "../vendor/lit-html/lit-html.js";
import { setSingleKeys, singleKeys } from "../core/preferences.js";
import { go } from "../core/router.js";
import { dialog } from "../parts/dialog.js";
import { addressOf, PAGES } from "./pages.js";

const FIELDS = "input, textarea, select, [contenteditable]";
const ROWS = "main tbody tr a.main, main [data-row]";
const PATIENCE = 1000;

/** @type {[string, [string, string][]][]} */
const LISTED = [
  [
    "Everywhere",
    [
      ["Ctrl K", "Find or do"],
      ["/", "Search of the page"],
      ["j, k", "Next row, row before"],
      ["Enter", "Open"],
      ["Esc", "Close what was opened last"],
      ["c", "New conversation"],
      ["?", "This list"],
    ],
  ],
  [
    "Go to",
    Object.values(PAGES).flatMap(
      ({ key, words }) => /** @type {[string, string][]} */ (key ? [[`g ${key}`, words]] : []),
    ),
  ],
  [
    "In a question",
    [
      ["a", "To the button Approve"],
      ["r", "To the button Reject"],
      ["e", "Edit the arguments"],
    ],
  ],
  [
    "In a chat",
    [
      ["Enter", "Send"],
      ["Shift Enter", "New line"],
      ["↑", "Edit the last message, in an empty field"],
      ["Ctrl .", "Stop"],
    ],
  ],
  [
    "In a timeline",
    [
      ["↑ ↓", "Step before, next step"],
      ["← →", "Fold, unfold"],
      ["Home, End", "First step, last step"],
    ],
  ],
];

/** Shows every key. */
export const help = () =>
  dialog(
    "Keyboard",
    (close) => html`
      <h2 tabindex="-1" autofocus>Keyboard</h2>
      <div class="keys">
        ${LISTED.map(
          ([title, rows]) =>
            html`<section>
              <h3>${title}</h3>
              <dl>
                ${rows.map(
                  ([key, words]) =>
                    html`<div>
                      <dt><kbd>${key}</kbd></dt>
                      <dd>${words}</dd>
                    </div>`,
                )}
              </dl>
            </section>`,
        )}
      </div>
      <label class="row"
        ><input
          type="checkbox"
          .checked=${singleKeys()}
          @change=${(/** @type {Event} */ event) =>
            setSingleKeys(/** @type {HTMLInputElement} */ (event.target).checked)}
        />Single keys do something outside of fields</label
      >
      <div class="row"><button class="btn" type="button" @click=${() => close()}>Close</button></div>
    `,
    { kind: "box help" },
  );

/** Moves the focus from row to row. @param {1 | -1} step */
function row(step) {
  const rows = /** @type {HTMLElement[]} */ ([...document.querySelectorAll(ROWS)]).filter((one) =>
    one.checkVisibility(),
  );
  const at = rows.findIndex(
    (one) => one === document.activeElement || one.closest("tr, li")?.contains(document.activeElement),
  );
  const next = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step];
  next?.focus();
}

/**
 * Acts on the keys of the whole page.
 * @param {() => void} palette
 * @param {AbortSignal} signal
 */
export function listenToKeys(palette, signal) {
  let going = 0;
  /** @type {Record<string, () => void>} */
  const single = {
    "?": help,
    "/": () => {
      const field = /** @type {HTMLElement | null} */ (document.querySelector("main input[type=search]"));
      if (field) field.focus();
      else palette();
    },
    j: () => row(1),
    k: () => row(-1),
    c: () => go("/chat"),
    g: () => {
      going = Date.now();
    },
  };
  const places = Object.fromEntries(Object.entries(PAGES).map(([name, { key }]) => [key ?? "", addressOf(name)]));

  /** @param {KeyboardEvent} event */
  function key(event) {
    if (event.defaultPrevented || event.isComposing || event.altKey) return;
    const modal = document.querySelector("dialog:modal");
    if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (!modal) palette();
      return;
    }
    const target = /** @type {Element} */ (event.target);
    if (event.ctrlKey || event.metaKey || modal || target.closest(FIELDS) || !singleKeys()) return;
    const place = Date.now() - going < PATIENCE && places[event.key];
    going = 0;
    const run = place ? () => go(place) : single[event.key];
    if (!run) return;
    event.preventDefault();
    run();
  }
  document.addEventListener("keydown", key, { signal });
}
