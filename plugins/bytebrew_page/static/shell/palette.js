// Find or do: everything that has a name, and what the token may do, from the keyboard.
import { html } from "../vendor/lit-html/lit-html.js";
import { api } from "../core/api.js";
import { may } from "../core/caller.js";
import { ago } from "../core/format.js";
import { icon } from "../core/icons.js";
import { go, to } from "../core/router.js";
import { shown } from "../core/text.js";
import { dialog } from "../parts/dialog.js";
import { addressOf, GROUPS, PAGES } from "./pages.js";
import { recent } from "./recent.js";

/** A row: what it is called, and what it does. @typedef {{ group: string, words: string, icon: string, meta?: string, run: () => void }} Row */

const PATIENCE = 150;
const MOST = 8;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** @returns {Row[]} */
const pages = () =>
  GROUPS.flatMap(([, names]) => names).map((name) => ({
    group: "Go to",
    words: PAGES[name].words,
    icon: name,
    meta: PAGES[name].key ? `g ${PAGES[name].key}` : "",
    run: () => go(addressOf(name)),
  }));

/** What can be done, each with the scope that it needs. @type {[string, string, string, string][]} */
const ACTS = [
  ["New conversation", "chat", "chat", "/chat"],
  ["New agent", "agents", "agents:write", "/agents?new=1"],
  ["Add a model", "models", "models:write", "/models?new=1"],
  ["Make an API key", "keys", "admin", "/keys?new=1"],
  ["Import a configuration", "config", "config", "/config?tab=import"],
  ["Back up now", "plugins", "admin", "/plugins"],
];

/** @param {Record<string, () => void>} shell what the shell itself does @returns {Row[]} */
const acts = (shell) => [
  ...ACTS.filter(([, , scope]) => may(scope)).map(([words, name, , url]) => row("Do", words, name, url)),
  ...Object.entries(shell).map(([words, run]) => ({ group: "Do", words, icon: "settings", run })),
];

/** @param {string} group @param {string} words @param {string} name @param {string} url @param {string} [meta] @returns {Row} */
const row = (group, words, name, url, meta) => ({ group, words, icon: name, meta, run: () => go(url) });

/** What a pasted id opens. @param {string} text @returns {Row[]} */
function byId(text) {
  if (UUID.test(text)) return [row("Open", `Session ${text}`, "sessions", to`/sessions/${text}`)];
  if (/^task_\w+$/.test(text)) return [row("Open", `Task ${text}`, "tasks", to`/tasks/${text}`)];
  if (/^conf_\w+$/.test(text)) return [row("Open", `Question ${text}`, "inbox", to`/?open=${text}`)];
  return [];
}

/** The configuration's names; a list that the token may not read is an empty one. @returns {Promise<Row[]>} */
async function named() {
  const lists = /** @type {[string, string][]} */ ([
    ["agents", "agents:read"],
    ["schemas", "schemas:read"],
    ["models", "models:read"],
  ]);
  const found = await Promise.all(
    lists.map(async ([name, scope]) => {
      if (!may(scope)) return [];
      const answer = await api.get(`/${name}`).catch(() => []);
      const items = /** @type {{ name: string, description?: string }[]} */ (answer.data ?? answer);
      const address = name === "models" ? "/models?name=" : `/${name}/`;
      return items.map((one) => row(PAGES[name].words, one.name, name, address + encodeURIComponent(one.name)));
    }),
  );
  return found.flat();
}

/** @param {string} text @param {AbortSignal} signal @returns {Promise<Row[]>} */
async function sessions(text, signal) {
  if (!may("chat")) return [];
  const answer = await api.get("/sessions", { q: text, limit: MOST }, signal);
  return /** @type {import("../../api.ts").Session[]} */ (answer.data).map((one) =>
    row("Sessions", one.title || one.id, "sessions", to`/sessions/${one.id}`, `${one.schema} · ${ago(one.updated_at)}`),
  );
}

/** The rows whose words have all words of a text; of a group the first ones. @param {Row[]} rows @param {string} text */
function filtered(rows, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  /** @type {Record<string, number>} */
  const counts = {};
  return rows.filter((one) => {
    const whole = one.words.toLowerCase();
    if (!words.every((word) => whole.includes(word))) return false;
    counts[one.group] = (counts[one.group] ?? 0) + 1;
    return !words.length || counts[one.group] <= MOST;
  });
}

/** Opens it. @param {Record<string, () => void>} shell what the shell itself does, by its words */
export function palette(shell) {
  const left = new AbortController();
  const fixed = [...pages(), ...acts(shell), ...recent().map((one) => row("Recent", one.words, one.icon, one.url))];
  const first = fixed.filter((one) => one.group !== "Go to" || one.meta); // those that are wanted most often
  /** @type {Row[]} */
  let names = [];
  /** @type {Row[]} */
  let found = [];
  /** @type {Row[]} */
  let rows = first;
  let text = "";
  let at = 0;
  let timer = 0;
  /** @type {() => void} */
  let redraw = () => {};
  const refresh = () => {
    const before = rows[at];
    rows = text ? [...byId(text), ...filtered([...fixed, ...names], text), ...found] : first;
    at = Math.max(0, rows.indexOf(before));
    redraw();
  };
  named().then((all) => ((names = all), refresh()));

  /** @param {string} value */
  function typed(value) {
    text = value.trim();
    found = [];
    at = 0;
    rows = [];
    refresh();
    clearTimeout(timer);
    if (text.length < 2) return;
    timer = window.setTimeout(async () => {
      const asked = text;
      const answer = await sessions(asked, left.signal).catch(() => []);
      if (asked !== text) return;
      found = answer;
      refresh();
    }, PATIENCE);
  }

  const closed = dialog(
    "Find or do",
    (close, update) => {
      redraw = () => {
        update();
        document.getElementById(`found-${at}`)?.scrollIntoView({ block: "nearest" });
      };
      /** @param {Row | undefined} one */
      const choose = (one) => {
        if (!one) return;
        close();
        one.run();
      };
      /** @param {KeyboardEvent} event */
      const key = (event) => {
        if (event.isComposing) return;
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (event.key === "Enter") choose(rows[at]);
        else if (step && rows.length) at = (at + step + rows.length) % rows.length;
        else return;
        event.preventDefault();
        redraw();
      };
      return html`
        <input
          role="combobox"
          aria-expanded="true"
          aria-controls="found"
          aria-autocomplete="list"
          aria-activedescendant=${rows.length ? `found-${at}` : ""}
          aria-label="Find or do"
          placeholder="A session, agent, page or action"
          autocomplete="off"
          spellcheck="false"
          @input=${(/** @type {InputEvent} */ event) => typed(/** @type {HTMLInputElement} */ (event.target).value)}
          @keydown=${key}
        />
        <ul role="listbox" id="found" aria-label="Results">
          ${rows.map((one, n) => [
            one.group !== rows[n - 1]?.group ? html`<li class="cap" role="presentation">${one.group}</li>` : "",
            html`<li role="option" id="found-${n}" aria-selected=${n === at} @click=${() => choose(one)}>
              ${icon(one.icon)}<span class="clip">${shown(one.words)}</span>
              ${one.meta ? html`<span class="meta nw">${one.meta}</span>` : ""}
            </li>`,
          ])}
        </ul>
        ${rows.length ? "" : html`<p class="none" role="status">Nothing here is called that.</p>`}
        <footer aria-hidden="true"><span>↑↓ choose</span><span>Enter open</span><span>Esc close</span></footer>
      `;
    },
    { kind: "palette" },
  );
  closed.then(() => {
    clearTimeout(timer);
    left.abort();
  });
}
