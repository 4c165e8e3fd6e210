// The search of a base as agents have it, and why each chunk was found.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { repeat } from "../../vendor/lit-html/directives/repeat.js";
import { api, part } from "../../core/api.js";
import { int } from "../../core/format.js";
import { Resource } from "../../core/resource.js";
import { setQuery } from "../../core/router.js";
import { shown } from "../../core/text.js";
import { View } from "../../core/view.js";

/** @typedef {import("../../../api.ts").Base} Base */
/** @typedef {import("../../../api.ts").Hit} Hit */
/** @typedef {import("../../../api.ts").Chunk} Chunk */
/** @typedef {{ q: string, threshold: string, file: string }} Wanted */
/** @typedef {{ results: Hit[], warning: string | null }} Found */

class BaseSearch extends View {
  /** @type {Base | null} */
  #base = null;
  /** @type {Wanted} */
  #wanted = { q: "", threshold: "", file: "" };
  /** The chunks around a hit, by its file and place. @type {Map<string, Chunk[] | Error | null>} */
  #around = new Map();
  /** @type {Resource<Found>} */
  #found = new Resource(this, (signal) => api.get(`${this.#path}/search`, this.#wanted, signal));

  get #path() {
    return `/knowledge-bases/${part(this.#base?.id ?? "")}`;
  }

  /** @param {Base} base */
  set base(base) {
    this.#base = base;
    this.update();
  }

  /** @param {Wanted} wanted */
  set wanted(wanted) {
    const before = this.#wanted;
    this.#wanted = wanted;
    if (JSON.stringify(before) !== JSON.stringify(wanted)) this.#look();
  }

  start() {
    this.#look();
  }

  #look() {
    this.#around.clear();
    if (this.isConnected && this.#wanted.q.trim()) this.#found.reload();
    this.update();
  }

  /** @param {SubmitEvent} event */
  #search(event) {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.target));
    setQuery(Object.fromEntries([...form].map(([name, value]) => [name, String(value).trim()])), { push: true });
  }

  /** @param {Hit} hit */
  async #show(hit) {
    const key = keyOf(hit);
    if (this.#around.has(key)) {
      this.#around.delete(key);
      return this.update();
    }
    this.#around.set(key, null);
    this.update();
    const query = { first: Math.max(1, hit.position - 1), limit: hit.position > 1 ? 3 : 2 };
    const path = `${this.#path}/files/${part(hit.file_id)}/chunks`;
    this.#around.set(
      key,
      await api.get(path, query, this.left).then(
        ({ data }) => data,
        (error) => error,
      ),
    );
    this.update();
  }

  /** @param {Hit} hit */
  #hit(hit) {
    const around = this.#around.get(keyOf(hit));
    const chunks = Array.isArray(around) ? around : [];
    const by = (/** @type {number} */ step) => chunks.find((chunk) => chunk.position === hit.position + step);
    return html`<li class="hit">
      <h3>
        ${shown(hit.file_name)}${hit.heading ? html` <span class="dim">${marked(hit.heading, hit)}</span>` : nothing}
      </h3>
      ${neighbour(by(-1), hit)}
      <p class="text">${marked(hit.text, hit)}</p>
      ${neighbour(by(1), hit)}
      <p class="row wrap meta">
        <span>score ${hit.score.toFixed(4)}</span>
        <span>${hit.word_rank ? `words: rank ${hit.word_rank}` : "words: none match"}</span>
        ${
          hit.similarity === null
            ? nothing
            : html`<span>meaning: likeness ${hit.similarity.toFixed(2)}, rank ${int(hit.vector_rank)}</span>`
        }
        <span>chunk ${int(hit.position)}</span>
        <button
          class="btn plain"
          type="button"
          aria-expanded=${this.#around.has(keyOf(hit))}
          @click=${() => this.#show(hit)}
        >
          ${this.#around.has(keyOf(hit)) ? "Hide what stands around it" : "Show what stands around it"}
        </button>
      </p>
      ${around instanceof Error ? html`<div class="note fail" role="alert">${around.message}</div>` : nothing}
    </li>`;
  }

  /** @param {Found} found */
  #results({ results, warning }) {
    const { q, file, threshold } = this.#wanted;
    const narrowed = file || threshold;
    return html`
      ${warning ? html`<div class="note wait">Only words were searched: ${warning}</div>` : nothing}
      <p class="meta" role="status">
        ${
          results.length
            ? `${results.length} ${results.length === 1 ? "chunk" : "chunks"}, best first`
            : narrowed
              ? "No chunk is found within these limits"
              : `No chunk has a word of "${q.slice(0, 100)}"`
        }
      </p>
      <h2 class="sr">What was found</h2>
      <ol class="hits">
        ${repeat(results, keyOf, (hit) => this.#hit(hit))}
      </ol>
    `;
  }

  draw() {
    const { q, threshold, file } = this.#wanted;
    return html`<section class="stack" aria-label="Search">
      <form class="filters" role="search" @submit=${this.#search}>
        <input type="search" name="q" .value=${q} placeholder="Ask what an agent would" aria-label="Search this base" />
        ${
          this.#base?.embedding_model || threshold
            ? html`<input
                class="amt"
                type="number"
                name="threshold"
                min="0"
                max="1"
                step="0.05"
                .value=${threshold}
                placeholder="likeness"
                aria-label="Least likeness, from 0 to 1"
              />`
            : nothing
        }
        <button class="btn">Search</button>
        ${
          file
            ? html`<span class="pill"
                >file: ${shown(file)}<button
                  type="button"
                  aria-label="Search all files"
                  @click=${() => setQuery({ file: null })}
                >
                  ×
                </button></span
              >`
            : nothing
        }
      </form>
      ${q.trim() ? this.#found.shown((found) => this.#results(found)) : nothing}
    </section>`;
  }
}
customElements.define("bb-base-search", BaseSearch);

/** @param {Hit} hit */
const keyOf = (hit) => `${hit.file_id} ${hit.position}`;

/** @param {Chunk | undefined} chunk @param {Hit} hit */
const neighbour = (chunk, hit) =>
  chunk
    ? html`<p class="text near">
        ${chunk.heading === hit.heading ? nothing : html`<b>${shown(chunk.heading)}</b> `}${shown(chunk.text)}
      </p>`
    : nothing;

/** A text whose words that match are marked. @param {string} text @param {Hit} hit */
function marked(text, { matched_terms }) {
  if (!matched_terms.length) return shown(text);
  const words = matched_terms.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|");
  const pieces = text.split(new RegExp(`(?<![\\p{L}\\p{N}])(${words})(?![\\p{L}\\p{N}])`, "giu"));
  return pieces.map((piece, n) => (n % 2 ? html`<mark>${shown(piece)}</mark>` : shown(piece)));
}
