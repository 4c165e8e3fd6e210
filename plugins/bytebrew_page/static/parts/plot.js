// <bb-plot>: bars, stacked, or lines over hours or days, with their values by arrow keys and as a table.
import { load } from "./plot/uplot.js";
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { styled } from "../core/style.js";
import { View } from "../core/view.js";

/** A row of values, null where there is none; `tone` is the name of a colour token, such as `bar-model`. */
/** @typedef {{ name: string, tone: string, values: (number | null)[] }} Series */
/**
 * @typedef {object} Plot
 * @property {string} title
 * @property {string[]} labels what the axis says of each place
 * @property {string[]} [places] what a reader is told of each place, where that is more
 * @property {Series[]} series of bars the lowest first
 * @property {boolean} [lines]
 * @property {number} [height]
 * @property {(value: number) => string} [format]
 * @property {string} [note] beside the title
 * @property {string} [empty] where there is nothing to draw
 */

const LABEL = 48;
const AXIS = 40;

class PlotView extends View {
  /** @type {Plot | null} */
  #data = null;
  #drawn = "";
  /** @type {any} */
  #plot = null;
  #at = -1;

  /** @param {Plot} data */
  set data(data) {
    this.#data = data;
    this.update();
  }

  start() {
    const size = new ResizeObserver(() => this.#fit());
    size.observe(this);
    const theme = new MutationObserver(() => this.#anew());
    theme.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#anew(), { signal: this.left });
    this.left.addEventListener("abort", () => {
      size.disconnect();
      theme.disconnect();
      this.#remove();
    });
  }

  get #empty() {
    return !this.#data?.series.some((one) => one.values.some((value) => value));
  }

  #remove() {
    this.#plot?.destroy();
    this.#plot = null;
    this.#drawn = "";
  }

  #anew() {
    this.#remove();
    this.update();
  }

  #fit() {
    const room = this.querySelector(".canvas");
    if (this.#plot && room && room.clientWidth !== this.#plot.width && this.#data)
      this.#plot.setSize({ width: room.clientWidth, height: this.#data.height ?? 76 });
  }

  async drawn() {
    const data = this.#data;
    if (!data || this.#empty) return this.#remove();
    const { labels, series, lines, height } = data;
    const wanted = JSON.stringify([labels, series, lines, height]);
    if (wanted === this.#drawn) return;
    this.#remove();
    this.#drawn = wanted;
    const [{ draw }, uPlot] = await Promise.all([import("./plot/draw.js"), load()]);
    const room = /** @type {HTMLElement | null} */ (this.querySelector(".canvas"));
    if (wanted !== this.#drawn || !room) return;
    this.#plot = draw(uPlot, room, data, { axis: AXIS, label: LABEL, point: (at) => this.#point(at) });
  }

  /** @param {number} at */
  #point(at) {
    if (at === this.#at) return;
    this.#at = at;
    this.update();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const last = (this.#data?.labels.length ?? 0) - 1;
    const to = {
      ArrowRight: Math.min(last, this.#at + 1),
      ArrowLeft: Math.max(0, this.#at - 1),
      Home: 0,
      End: last,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.#plot?.setCursor({ left: this.#plot.valToPos(to, "x"), top: 0 });
    this.#point(to);
  }

  #leave() {
    this.#plot?.setCursor({ left: -10, top: -10 });
    this.#point(-1);
  }

  /** The values at a place. @param {Plot} data @param {number} at */
  #values(data, at) {
    const format = data.format ?? String;
    const values = data.series.map((one) => {
      const value = one.values[at];
      return `${one.name} ${value === null || value === undefined ? "none" : format(value)}`;
    });
    return `${(data.places ?? data.labels)[at]}: ${values.join(", ")}`;
  }

  draw() {
    const data = this.#data;
    if (!data) return nothing;
    const at = this.#at < data.labels.length ? this.#at : -1;
    const words = at >= 0 ? this.#values(data, at) : "";
    return html`<figure>
      <figcaption>
        <b>${data.title}</b>
        ${
          data.series.length > 1
            ? data.series.map(
                (one) =>
                  html`<span class="key"><i ${styled({ background: `var(--${one.tone})` })}></i>${one.name}</span>`,
              )
            : ""
        }
        ${data.note ? html`<span class="meta">${data.note}</span>` : ""}
      </figcaption>
      ${
        this.#empty
          ? html`<p class="dim none">${data.empty ?? "Nothing in this time."}</p>`
          : html`<div class="room">
              <div
                class="canvas"
                role="slider"
                aria-label=${data.title}
                aria-roledescription="plot"
                aria-valuemin="0"
                aria-valuemax=${data.labels.length - 1}
                aria-valuenow=${Math.max(0, at)}
                aria-valuetext=${at >= 0 ? words : `${data.labels.length} values; arrow keys move`}
                tabindex="0"
                ${styled({ "block-size": `${data.height ?? 76}px` })}
                @keydown=${this.#key}
                @blur=${this.#leave}
                @pointerleave=${this.#leave}
              ></div>
              ${words ? html`<span class="here ${at * 2 > data.labels.length ? "before" : ""}" aria-hidden="true">${words}</span>` : ""}
            </div>`
      }
      ${this.#empty ? "" : this.#table(data)}
    </figure>`;
  }

  /** @param {Plot} data */
  #table(data) {
    const format = data.format ?? String;
    return html`<details class="values">
      <summary>As a table</summary>
      <div class="scroll" tabindex="0" role="group" aria-label="${data.title} as a table">
        <table>
          <caption class="sr">
            ${data.title}
          </caption>
          <thead>
            <tr>
              <th scope="col">When</th>
              ${data.series.map((one) => html`<th scope="col" class="num">${one.name}</th>`)}
            </tr>
          </thead>
          <tbody>
            ${data.labels.map(
              (label, n) =>
                html`<tr>
                  <th scope="row">${data.places?.[n] ?? label}</th>
                  ${data.series.map((one) => {
                    const value = one.values[n];
                    return html`<td class="num">${value === null || value === undefined ? "–" : format(value)}</td>`;
                  })}
                </tr>`,
            )}
          </tbody>
        </table>
      </div>
    </details>`;
  }
}
customElements.define("bb-plot", PlotView);
