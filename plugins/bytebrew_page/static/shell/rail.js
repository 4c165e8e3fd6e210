// The navigation: the rail at the side, and the tabs at the bottom of a phone.
import { html, nothing, svg } from "../vendor/lit-html/lit-html.js";
import { ms } from "../core/format.js";
import { icon } from "../core/icons.js";
import { theme } from "../core/preferences.js";
import { state } from "../parts/state.js";
import { addressOf, GROUPS, PAGES } from "./pages.js";

const TABS = ["inbox", "chat", "sessions"];
const MARK = html`<svg viewBox="0 0 20 20" aria-hidden="true">
  ${svg`<rect x="1" y="1" width="18" height="18" rx="5" fill="var(--ink)"></rect>
    <path d="M6 5.500v9M6 10h5.500a2.200 2.200 0 0 1 0 4.500H6M6 5.500h4.500a2.200 2.200 0 0 1 0 4.500" fill="none" stroke="var(--on-ink)" stroke-width="1.700" stroke-linejoin="round"></path>`}
</svg>`;
const HEALTH = {
  draining: "stops, and takes no new work",
  degraded: "does not store everything",
  overloaded: "begins no more turns for the moment",
};
const MAC = navigator.platform.startsWith("Mac");

/**
 * What the navigation shows, and what it does.
 * @typedef {object} Nav
 * @property {string} current the page that is shown
 * @property {number} waiting questions that wait for an answer
 * @property {import("../../api.ts").Health | null} health
 * @property {() => void} find
 * @property {() => void} menu
 * @property {() => void} changeTheme
 */

/** @param {string} name @param {Nav} nav */
const current = (name, nav) => (name === nav.current ? "page" : nothing);

/** @param {string} name @param {Nav} nav */
const count = (name, nav) =>
  name === "inbox" && nav.waiting
    ? html`<span class="count"
        >${nav.waiting > 99 ? "99+" : nav.waiting}<span class="sr"
          >${nav.waiting === 1 ? " waits" : " wait"}</span
        ></span
      >`
    : nothing;

/** How the engine is, unless it is well. @param {Nav} nav */
function health({ health }) {
  if (!health || health.status === "ok") return nothing;
  const words = HEALTH[/** @type {keyof typeof HEALTH} */ (health.status)] ?? health.status;
  return html`<p class="health" role="status" title=${health.database ?? health.overload ?? ""}>
    ${state("alert", `The engine ${words}`)}
  </p>`;
}

/** @param {Nav} nav */
export const rail = (nav) => html`
  <a class="brand" href="/">${MARK}ByteBrew</a>
  <button class="find" type="button" aria-keyshortcuts=${MAC ? "Meta+K" : "Control+K"} @click=${nav.find}>
    ${icon("find")}Find or do<kbd aria-hidden="true">${MAC ? "⌘ K" : "Ctrl K"}</kbd>
  </button>
  ${GROUPS.map(
    ([title, names]) =>
      html`${title ? html`<h2 id="group-${title}">${title}</h2>` : nothing}
        <ul aria-labelledby=${title ? `group-${title}` : nothing}>
          ${names.map(
            (name) =>
              html`<li>
                <a class="to" href=${addressOf(name)} aria-current=${current(name, nav)}
                  >${icon(name)}${PAGES[name].words}${count(name, nav)}</a
                >
              </li>`,
          )}
        </ul>`,
  )}
  <div class="foot">
    ${health(nav)}
    <div class="row">
      <span class="grow"
        >${nav.health ? `${nav.health.version} · up ${ms(Math.max(0, Date.now() - Date.parse(nav.health.started_at)))}` : ""}</span
      >
      <button class="btn plain" type="button" aria-label="Use the ${other()} theme" @click=${nav.changeTheme}>
        ${icon("sun")}
      </button>
    </div>
  </div>
`;

const other = () => (theme() === "dark" ? "light" : "dark");

/** @param {Nav} nav */
export const tabs = (nav) => html`
  ${TABS.map(
    (name) =>
      html`<a href=${addressOf(name)} aria-current=${current(name, nav)}
        >${icon(name)}${PAGES[name].words}${count(name, nav)}</a
      >`,
  )}
  <button type="button" aria-haspopup="dialog" @click=${nav.menu}>${icon("menu")}Menu</button>
`;
