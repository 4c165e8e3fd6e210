// <bb-timeline>: the waterfall of a turn. Its rows are a tree: arrows move, Left and Right fold, Enter inspects.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { ms } from "../core/format.js";
import { styled } from "../core/style.js";
import { marked, shown } from "../core/text.js";
import { View } from "../core/view.js";
import { Windowed } from "./windowed.js";

/** @typedef {import("../pages/sessions/spans.js").Bar} Bar */
/** @typedef {{ bar: Bar, depth: number, parents: boolean }} Row */

const MANY = 400;
const MARKS = 6;

export class Timeline extends View {
  /** @type {Bar[]} */
  #bars = [];
  /** @type {Map<string | null, Bar[]>} */
  #below = new Map();
  /** @type {Set<string>} */
  #folded = new Set();
  /** @type {Set<string>} the bars that the reader has folded or unfolded */
  #touched = new Set();
  /** @type {Row[]} */
  #rows = [];
  #total = 1;
  #window = new Windowed(this, () => this.querySelector(".rows"), 30);
  /** The id of the bar that is inspected. */
  picked = "";

  /** @param {Bar[]} bars the first of them is the whole */
  set bars(bars) {
    this.#bars = bars;
    this.#total = Math.max(1, bars[0]?.end ?? 1);
    this.#below = new Map();
    const ids = new Set(bars.map((bar) => bar.id));
    for (const bar of bars) {
      const parent = bar.parent !== null && !ids.has(bar.parent) ? "turn" : bar.parent;
      const found = this.#below.get(parent);
      if (found) found.push(bar);
      else this.#below.set(parent, [bar]);
      const deep = bars.length > MANY && bar.kind === "agent";
      if (deep && !this.#touched.has(bar.id)) this.#folded.add(bar.id);
    }
    this.#list();
  }

  start() {
    this.#window.watch();
  }

  /** Brings the inspected bar into view. */
  showPicked() {
    const index = this.#rows.findIndex((row) => row.bar.id === this.picked);
    if (index >= 0) this.#window.show(index);
  }

  #list() {
    this.#rows = [];
    this.#walk(null, 0);
    this.update();
  }

  /** @param {string | null} parent @param {number} depth */
  #walk(parent, depth) {
    for (const bar of this.#below.get(parent) ?? []) {
      const parents = this.#below.has(bar.id);
      this.#rows.push({ bar, depth, parents });
      if (parents && !this.#folded.has(bar.id)) this.#walk(bar.id, depth + 1);
    }
  }

  drawn() {
    if (this.#window.measure()) this.update();
  }

  draw() {
    const step = tick(this.#total);
    const marks = [];
    for (let time = 0; time <= this.#total; time += step) marks.push(time);
    const { from, to, above, below } = this.#window.slice(this.#rows.length);
    const rows = this.#rows.slice(from, to);
    // one row is in the order of focus, also where the inspected one is out of view
    const focus = rows.some(({ bar }) => bar.id === this.picked) ? this.picked : rows[0]?.bar.id;
    return html`<div class="tl" ${styled({ "--tick": share(step, this.#total) })}>
      <div class="axis" aria-hidden="true">
        <span></span>
        <div class="ticks">
          ${marks.map((time) => html`<span ${styled({ left: share(time, this.#total) })}>${label(time, step)}</span>`)}
        </div>
        <span></span>
      </div>
      <div class="rows" role="tree" aria-label="Timeline of the turn" @keydown=${this.#key} @click=${this.#press}>
        <div role="none" ${styled({ height: above })}></div>
        ${repeat(
          rows,
          ({ bar }) => bar.id,
          (row) => this.#row(row, focus),
        )}
        <div role="none" ${styled({ height: below })}></div>
      </div>
    </div>`;
  }

  /** @param {Row} row @param {string | undefined} focus */
  #row({ bar, depth, parents }, focus) {
    const kind = bar.state === "failed" && bar.kind !== "turn" ? "failed" : bar.kind;
    const open = !this.#folded.has(bar.id);
    const took = bar.end - bar.start;
    const goes = bar.state === "running" || bar.state === "needs_input" || bar.state === "queued";
    return html`<div
      class="span ${goes ? "goes" : ""}"
      role="treeitem"
      data-row
      data-id=${bar.id}
      aria-level=${depth + 1}
      aria-expanded=${parents ? open : nothing}
      aria-selected=${bar.id === this.picked}
      tabindex=${bar.id === focus ? 0 : -1}
      ${styled({ "--depth": Math.min(depth, 8) })}
    >
      <span class="name" title=${marked(`${bar.name} ${bar.sub}`)}
        ><span class="tw" aria-hidden="true" data-fold>${parents ? (open ? "▾" : "▸") : ""}</span
        ><span class="kind ${kind}"></span><b>${shown(bar.name)}</b>${" "}<span class="sub clip">${shown(bar.sub)}</span
        ><span class="sr">, ${bar.state.replace("_", " ")}, </span></span
      >
      <span class="lane"
        ><span
          class="bar ${bar.kind} ${kind === "failed" ? "failed" : ""}"
          ${styled({ left: share(bar.start, this.#total), width: share(took, this.#total) })}
          >${
            bar.first !== null && took > 0
              ? html`<span class="ttft" ${styled({ width: share(Math.min(bar.first, took), took) })}></span>`
              : ""
          }</span
        ></span
      >
      <span class="dur">${ms(took)}</span>
    </div>`;
  }

  /** @param {string} id @param {boolean} [focus] */
  #pick(id, focus = true) {
    this.picked = id;
    this.update();
    if (focus)
      queueMicrotask(() => {
        this.showPicked();
        queueMicrotask(() =>
          /** @type {HTMLElement | null} */ (this.querySelector(`[data-id="${CSS.escape(id)}"]`))?.focus({
            preventScroll: true,
          }),
        );
      });
    this.dispatchEvent(new CustomEvent("picked", { detail: id }));
  }

  /** @param {string} id */
  #fold(id) {
    this.#touched.add(id);
    if (!this.#folded.delete(id)) this.#folded.add(id);
    this.#list();
  }

  /** @param {MouseEvent} event */
  #press(event) {
    const target = /** @type {Element} */ (event.target);
    const id = /** @type {HTMLElement | null} */ (target.closest("[data-id]"))?.dataset.id;
    if (!id) return;
    if (target.closest("[data-fold]") && this.#below.has(id)) this.#fold(id);
    else {
      this.#pick(id);
      this.dispatchEvent(new CustomEvent("opened", { detail: id }));
    }
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const id = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("[data-id]"))?.dataset
      .id;
    const index = this.#rows.findIndex(({ bar }) => bar.id === id);
    if (id === undefined || index < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const row = this.#rows[index];
    /** @type {Record<string, number>} */
    const moves = {
      ArrowDown: index + 1,
      j: index + 1,
      ArrowUp: index - 1,
      k: index - 1,
      Home: 0,
      End: this.#rows.length - 1,
    };
    const open = row.parents && !this.#folded.has(id);
    if (event.key in moves) {
      const next = this.#rows[moves[event.key]];
      if (next) this.#pick(next.bar.id);
    } else if (event.key === "ArrowLeft") {
      if (open) this.#fold(id);
      else if (row.bar.parent !== null) this.#pick(row.bar.parent);
    } else if (event.key === "ArrowRight") {
      if (row.parents && !open) this.#fold(id);
      else if (open) this.#pick(this.#rows[index + 1].bar.id);
    } else if (event.key === "Enter" || event.key === " ") {
      this.#pick(id);
      this.dispatchEvent(new CustomEvent("opened", { detail: id }));
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
customElements.define("bb-timeline", Timeline);

/** @param {number} part @param {number} whole */
const share = (part, whole) => `${((100 * part) / whole).toFixed(3)}%`;

/** The distance of two marks: 1, 2 or 5 of a unit that people count in. @param {number} total */
function tick(total) {
  const steps = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5, 72e5,
  ];
  return steps.find((step) => total / step <= MARKS) ?? 864e5 * Math.ceil(total / 864e5 / MARKS);
}

/** @param {number} time @param {number} step */
function label(time, step) {
  if (time === 0) return "0";
  if (step < 1000) return `${time} ms`;
  if (step < 60_000) return `${time / 1000} s`;
  return step < 3_600_000 ? `${time / 60_000} m` : `${time / 3_600_000} h`;
}
