// The questions that wait for an answer, oldest first. Whatever comes is added behind; an answered one folds where it is.
import { html } from "../../vendor/lit-html/lit-html.js";
import { repeat } from "../../vendor/lit-html/directives/repeat.js";
import { api, part } from "../../core/api.js";
import { may } from "../../core/caller.js";
import { Resource, failed } from "../../core/resource.js";
import { setQuery } from "../../core/router.js";
import "../../parts/approval.js";

/** @typedef {import("../../../api.ts").ConfirmationDetail} Question */
/** @typedef {import("../../parts/approval.js").Approval} Approval */

const MOST = 50;

export class Questions {
  /** @type {Map<string, Question>} */
  #known = new Map();
  #total = 0;
  /** @type {Resource<void>} */
  #list;

  /** @param {import("../inbox.js").default} page */
  constructor(page) {
    this.page = page;
    this.#list = new Resource(page, (signal) => this.#load(signal));
  }

  get at() {
    return this.#list.at;
  }

  get error() {
    return this.#list.error;
  }

  reload() {
    return this.#list.reload();
  }

  get #waiting() {
    return [...this.#known.values()].filter((one) => one.status === "pending");
  }

  /** @param {AbortSignal} signal */
  async #load(signal) {
    /** @type {import("../../../api.ts").Inbox} */
    const page = await api.get("/approvals", { limit: MOST }, signal);
    const here = new Set(page.data.map((one) => one.id));
    const gone = this.#waiting.filter((one) => !here.has(one.id)).slice(0, MOST);
    const ended = await Promise.all(
      gone.map((one) => api.get(`/approvals/${part(one.id)}`, {}, signal).catch(() => null)),
    );
    gone.forEach((one, n) => {
      if (ended[n]) this.#known.set(one.id, ended[n]);
      else this.#known.delete(one.id);
    });
    for (const one of page.data) this.#known.set(one.id, one);
    this.#total = page.total;
  }

  /** The next question takes the focus, or else the section. @param {CustomEvent<Question>} event */
  #answered(event) {
    const card = /** @type {Approval} */ (event.target);
    this.#known.set(event.detail.id, event.detail);
    this.#total = Math.max(0, this.#total - 1);
    const cards = /** @type {Approval[]} */ ([...this.page.querySelectorAll("bb-approval")]);
    const at = cards.indexOf(card);
    const next = [...cards.slice(at + 1), ...cards.slice(0, at)].find((one) => one.data?.status === "pending");
    setQuery({ open: next?.data?.id ?? null });
    if (next) next.toHeadline();
    else queueMicrotask(() => /** @type {HTMLElement | null} */ (this.page.querySelector(".waiting h2"))?.focus());
    this.page.update();
  }

  /** @param {CustomEvent<boolean>} event */
  #folded(event) {
    const { data } = /** @type {Approval} */ (event.target);
    setQuery({ open: event.detail ? (data?.id ?? null) : "none" });
  }

  draw() {
    if (this.error && !this.at) {
      const { status } = /** @type {any} */ (this.error);
      return status === 403 ? "" : failed(this.error, this.at, () => this.reload());
    }
    if (!this.#known.size) return this.#list.slow ? this.#bones() : "";
    const open = this.page.query("open") || this.#waiting[0]?.id;
    const more = this.#total - this.#waiting.length;
    return html`<section
      class="block waiting"
      aria-labelledby="waiting"
      @answered=${this.#answered.bind(this)}
      @folded=${this.#folded.bind(this)}
    >
      <div class="bar">
        <h2 id="waiting" tabindex="-1">Waiting for an answer · ${Math.max(this.#total, this.#waiting.length)}</h2>
        <span class="meta hide-s">oldest first</span>
      </div>
      ${this.error ? failed(this.error, this.at, () => this.reload()) : ""}
      <div class="stack">
        ${repeat(
          [...this.#known.values()],
          (one) => one.id,
          (one) =>
            html`<bb-approval .data=${one} .open=${one.id === open} .readOnly=${!may("approvals")}></bb-approval>`,
        )}
      </div>
      ${more > 0 ? html`<p class="dim">${more} more will follow as you answer these.</p>` : ""}
    </section>`;
  }

  #bones() {
    return html`<section class="block" aria-busy="true" aria-label="Waiting for an answer">
      <div class="bar"><h2>Waiting for an answer</h2></div>
      <p class="dim">Loading</p>
    </section>`;
  }
}
