// Two texts side by side, line by line, with the changed words marked.
//
//   import "../parts/diff.js";
//   html`<bb-diff .was=${{ title: "v13", note: "19 Nov, dana", text: a }} .now=${{ title: "v14", text: b }}></bb-diff>`
//
//   import { changes } from "../parts/diff.js";
//   changes(plan.changes[0].fields)   a list of `{ field, before, after }`, as imports and versions have it
//
// Values that are not text are compared as indented JSON: `textOf(definition)`.
import { html } from "../vendor/lit-html/lit-html.js";
import { compare, words } from "../core/compare.js";
import { shown } from "../core/text.js";
import { View } from "../core/view.js";

/** A side: its title, a note beside it, and its text. */
/** @typedef {{ title: string, note?: string, text: string }} Side */
/** A row: a line of both, of one, or one that replaces another; or a stretch of equal lines that is folded. */
/** @typedef {{ kind: "same" | "changed", left: string | null, right: string | null }} Row */
/** @typedef {{ kind: "fold", rows: Row[] }} Fold */

const FOLDED = 8;
const MARGIN = 3;
const BY_LINE = 2000;
const LONG_LINE = 4000;
const AT_ONCE = 1000;

/** A value as the text that is compared: text as it is, anything else as indented JSON. @param {unknown} value */
export const textOf = (value) =>
  typeof value === "string" ? value : value === null || value === undefined ? "" : JSON.stringify(value, null, 2);

/** Rows that pair up the removed and added lines of each place. @param {string} before @param {string} after @returns {Row[]} */
function rowsOf(before, after) {
  /** @type {Row[]} */
  const rows = [];
  /** @type {string[]} */
  let gone = [];
  /** @type {string[]} */
  let fresh = [];
  const pair = () => {
    for (let n = 0; n < Math.max(gone.length, fresh.length); n++)
      rows.push({ kind: "changed", left: gone[n] ?? null, right: fresh[n] ?? null });
    gone = [];
    fresh = [];
  };
  for (const { kind, text } of compare(linesOf(before), linesOf(after))) {
    if (kind === "gone") gone.push(text);
    else if (kind === "new") fresh.push(text);
    else {
      pair();
      rows.push({ kind: "same", left: text, right: text });
    }
  }
  pair();
  return rows;
}

/** @param {string} text */
const linesOf = (text) => (text ? text.split("\n") : []);

/** The rows with long equal stretches folded but for what surrounds a change. @param {Row[]} rows @returns {(Row | Fold)[]} */
function folded(rows) {
  /** @type {(Row | Fold)[]} */
  const found = [];
  for (let from = 0; from < rows.length;) {
    let to = from;
    while (to < rows.length && rows[to].kind === "same") to++;
    const first = from === 0 ? from : from + MARGIN;
    const last = to === rows.length ? to : to - MARGIN;
    if (to - from > FOLDED && last - first > 1) {
      found.push(...rows.slice(from, first), { kind: "fold", rows: rows.slice(first, last) }, ...rows.slice(last, to));
    } else found.push(...rows.slice(from, to));
    while (to < rows.length && rows[to].kind !== "same") found.push(rows[to++]);
    from = to;
  }
  return found;
}

class Diff extends View {
  /** @type {Side} */
  #was = { title: "", text: "" };
  /** @type {Side} */
  #now = { title: "", text: "" };
  /** @type {(Row | Fold)[] | null} */
  #rows = null;
  #byLine = false;
  #most = AT_ONCE;

  /** @param {Side} side */
  set was(side) {
    if (side.text !== this.#was.text) this.#rows = null;
    this.#was = side;
    this.update();
  }

  /** @param {Side} side */
  set now(side) {
    if (side.text !== this.#now.text) this.#rows = null;
    this.#now = side;
    this.update();
  }

  #compared() {
    if (!this.#rows) {
      const rows = rowsOf(this.#was.text, this.#now.text);
      this.#byLine = rows.length > BY_LINE;
      this.#most = AT_ONCE;
      this.#rows = folded(rows);
    }
    return this.#rows;
  }

  /** @param {Fold} fold */
  #unfold(fold) {
    this.#rows = this.#compared().flatMap((row) => (row === fold ? fold.rows : [row]));
    this.#most += fold.rows.length;
    this.update();
  }

  /** @param {Row} row */
  #line({ kind, left, right }) {
    if (kind === "same")
      return html`<p>${shown(left)}</p>
        <p class="right again">${shown(right)}</p>`;
    if (left === null)
      return html`<p class="none"></p>
        <p class="right new">${shown(right)}</p>`;
    if (right === null)
      return html`<p class="gone">${shown(left)}</p>
        <p class="right none"></p>`;
    if (this.#byLine || left.length + right.length > LONG_LINE)
      return html`<p class="gone">${shown(left)}</p>
        <p class="right new">${shown(right)}</p>`;
    const parts = compare(words(left), words(right));
    const old = parts.filter((part) => part.kind !== "new");
    const fresh = parts.filter((part) => part.kind !== "gone");
    return html`<p class="gone">${old.map(word)}</p>
      <p class="right new">${fresh.map(word)}</p>`;
  }

  draw() {
    const rows = this.#compared();
    const { title: a } = this.#was;
    const { title: b } = this.#now;
    if (rows.every((row) => row.kind !== "changed")) return html`<p class="meta">${a} and ${b} are the same.</p>`;
    const rest = rows.length - this.#most;
    return html`
      ${this.#byLine ? html`<p class="meta">Compared line by line: more than ${BY_LINE} lines.</p>` : ""}
      <div class="diff" role="group" aria-label="Difference between ${a} and ${b}">
        <h3>${a} <span>${this.#was.note ?? ""}</span></h3>
        <h3 class="right">${b} <span>${this.#now.note ?? ""}</span></h3>
        ${rows.slice(0, this.#most).map((row) => (row.kind === "fold" ? this.#fold(row) : this.#line(row)))}
      </div>
      ${
        rest > 0
          ? html`<button class="btn" type="button" @click=${() => ((this.#most += AT_ONCE), this.update())}>
              Show ${Math.min(rest, AT_ONCE)} more of ${rest} rows
            </button>`
          : ""
      }
    `;
  }

  /** @param {Fold} fold */
  #fold(fold) {
    return html`<button class="fold" type="button" @click=${() => this.#unfold(fold)}>
      ${fold.rows.length} equal lines
    </button>`;
  }
}
customElements.define("bb-diff", Diff);

/** @param {import("../core/compare.js").Part} part */
function word({ kind, text }) {
  if (kind === "same") return shown(text);
  return kind === "gone" ? html`<del>${shown(text)}</del>` : html`<ins>${shown(text)}</ins>`;
}

const SHORT = 60;

/** A value that fits into a line, as such a line; null for others. @param {unknown} value */
function brief(value) {
  if (value === null || value === undefined || value === "") return "none";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length <= SHORT && !text.includes("\n") ? text : null;
}

/** Whether a value is a list of names, which is shown as those that came and went. @param {unknown} value @returns {value is string[]} */
const isNames = (value) => Array.isArray(value) && value.every((one) => typeof one === "string" && one.length <= SHORT);

/** @param {string[]} before @param {string[]} after */
function names(before, after) {
  const gone = before.filter((one) => !after.includes(one));
  const fresh = after.filter((one) => !before.includes(one));
  if (!gone.length && !fresh.length) return "in another order";
  return [
    ...gone.map((one) => html`<del>${shown(one)}</del> `),
    ...fresh.map((one) => html`<ins>${shown(one)}</ins> `),
  ];
}

/**
 * The changed fields of an item: short values as `old → new`, lists of names as what came and went, long ones as a diff.
 * @param {readonly { field: string, before?: unknown, after?: unknown }[]} fields
 * @param {{ before?: string, after?: string }} [titles]
 */
export const changes = (fields, { before = "Before", after = "After" } = {}) =>
  html`<dl class="changes">
    ${fields.map((one) => {
      const title = html`<dt>${one.field ? html`<code>${shown(one.field)}</code>` : "value"}</dt>`;
      const [old, now] = [one.before ?? [], one.after ?? []];
      if (isNames(old) && isNames(now) && old.length + now.length)
        return html`${title}
          <dd>${names(old, now)}</dd>`;
      const [was, is] = [brief(one.before), brief(one.after)];
      if (was !== null && is !== null)
        return html`${title}
          <dd><del>${shown(was)}</del> <span aria-label="becomes">→</span> <ins>${shown(is)}</ins></dd>`;
      return html`${title}
        <dd class="long">
          <bb-diff
            .was=${{ title: before, text: textOf(one.before) }}
            .now=${{ title: after, text: textOf(one.after) }}
          ></bb-diff>
        </dd>`;
    })}
  </dl>`;
