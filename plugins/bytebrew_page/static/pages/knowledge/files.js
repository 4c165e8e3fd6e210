// The files of a base: uploads with their progress, and how far each is indexed.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { api, part } from "../../core/api.js";
import { may } from "../../core/caller.js";
import { ago, bytes, int, whole } from "../../core/format.js";
import { Resource } from "../../core/resource.js";
import { say } from "../../core/say.js";
import { shown } from "../../core/text.js";
import { upload } from "../../core/upload.js";
import { View } from "../../core/view.js";
import { sure } from "../../parts/dialog.js";
import { empty, time } from "../../parts/head.js";
import { state } from "../../parts/state.js";
import { table } from "../../parts/table.js";

/** @typedef {import("../../../api.ts").Base} Base */
/** @typedef {import("../../../api.ts").File} Stored */
/** @typedef {{ file: File, share: number, error: string }} Sending */

const POLL = 2000;

class BaseFiles extends View {
  /** @type {Base | null} */
  #base = null;
  /** @type {Sending[]} */
  #sending = [];
  #over = false;
  #error = "";
  /** @type {Resource<Stored[]>} */
  #files = new Resource(this, (signal) => api.get(this.#path(), {}, signal));

  /** @param {Base} base */
  set base(base) {
    this.#base = base;
    this.update();
  }

  #path(rest = "") {
    return `/knowledge-bases/${part(this.#base?.id ?? "")}/files${rest}`;
  }

  start() {
    this.#files.reload();
    this.every(POLL, () => this.#follow());
  }

  /** Looks again while something is indexed, and says when nothing is left. */
  async #follow() {
    if (!this.#files.value?.some((file) => file.status === "indexing")) return;
    await this.#files.reload();
    if (this.#files.value.some((file) => file.status === "indexing")) return;
    say("All files are indexed");
    this.#told();
  }

  #told() {
    this.dispatchEvent(new Event("changed", { bubbles: true }));
  }

  /** Sends files one after another; each is indexed while the next is sent. @param {Iterable<File>} files */
  async #send(files) {
    const come = [...files].map((file) => ({ file, share: 0, error: "" }));
    this.#sending = [...this.#sending.filter((one) => !one.error), ...come];
    this.update();
    for (const one of come) {
      try {
        await upload(this.#path(), one.file, (share) => ((one.share = share), this.update()), this.left);
        this.#sending = this.#sending.filter((other) => other !== one);
        await this.#files.reload();
      } catch (error) {
        if (this.left.aborted) return;
        one.error = /** @type {Error} */ (error).message;
        this.update();
      }
    }
    this.#told();
  }

  /** @param {() => Promise<any>} act */
  async #do(act) {
    this.#error = "";
    try {
      await act();
      this.#told();
    } catch (error) {
      this.#error = /** @type {Error} */ (error).message;
    }
    await this.#files.reload();
  }

  /** @param {Stored} file */
  async #delete(file) {
    const back = file.source === "folder" ? "The folder has it still: the next look into it brings it back." : "";
    if (!(await sure(`Delete ${file.file_name}`, `No agent finds it any more. ${back}`))) return;
    this.#do(() => api.delete(this.#path(`/${part(file.id)}`)));
  }

  #columns() {
    /** @type {import("../../parts/table.js").Column<Stored>[]} */
    const columns = [
      {
        title: "File",
        cell: (file) =>
          html`<b class="name">${shown(file.file_name)}</b>
            ${file.status_message ? html`<span class="err about">${shown(file.status_message)}</span>` : nothing}`,
      },
      { title: "State", cell: (file) => stateOf(file) },
      { title: "Size", cell: (file) => bytes(file.file_size), num: true, label: true },
      { title: "Chunks", cell: (file) => int(file.chunk_count), num: true, label: true },
      { title: "Indexed", cell: (file) => time(file.indexed_at, ago, whole), num: true, nowrap: true, label: true },
    ];
    if (!may("agents:write")) return columns;
    const acts = (/** @type {Stored} */ file) =>
      html`<span class="row end">
        <button
          class="btn ${file.status === "error" ? "" : "plain"}"
          type="button"
          aria-label="Index again: ${file.file_name}"
          @click=${() => this.#do(() => api.post(this.#path(`/${part(file.id)}/reindex`)))}
        >
          Index again
        </button>
        <button
          class="btn plain"
          type="button"
          aria-label="Delete ${file.file_name}"
          @click=${() => this.#delete(file)}
        >
          Delete
        </button>
      </span>`;
    return [...columns, { title: "What can be done", hidden: true, cell: acts }];
  }

  /** Where files are dropped or chosen. */
  #drop() {
    /** @param {DragEvent} event */
    const drop = (event) => {
      event.preventDefault();
      this.#over = false;
      this.#send(event.dataTransfer?.files ?? []);
    };
    /** @param {boolean} over */
    const over = (over) => (/** @type {DragEvent} */ event) => {
      event.preventDefault();
      this.#over = over;
      this.update();
    };
    /** @param {Event} event */
    const choose = (event) => {
      const input = /** @type {HTMLInputElement} */ (event.target);
      this.#send(input.files ?? []);
      input.value = "";
    };
    return html`<label
      class="drop ${this.#over ? "over" : ""}"
      @dragover=${over(true)}
      @dragleave=${over(false)}
      @drop=${drop}
    >
      <span><b>Upload files</b> or drop them here</span>
      <span class="meta"
        >Text, Markdown, HTML, CSV, JSON, PDF, Word. One of the same name takes the place of the one before.</span
      >
      <input type="file" multiple aria-label="Upload files" @change=${choose} />
    </label>`;
  }

  draw() {
    return html`<section class="stack" aria-label="Files">
      <h2>Files</h2>
      ${may("agents:write") ? this.#drop() : nothing}
      ${this.#error ? html`<div class="note fail" role="alert">${this.#error}</div>` : nothing}
      ${
        this.#sending.length
          ? html`<ul class="list" aria-label="Uploads">
              ${this.#sending.map(sending)}
            </ul>`
          : nothing
      }
      ${this.#files.shown((files) =>
        files.length
          ? table("Files", this.#columns(), files, (file) => file.id)
          : this.#sending.length
            ? nothing
            : empty("No file is in this base yet", "What you upload is cut into chunks, indexed, and found at once."),
      )}
    </section>`;
  }
}
customElements.define("bb-base-files", BaseFiles);

/** @param {Sending} one */
const sending = ({ file, share, error }) =>
  html`<li>
    <span class="line"
      ><strong>${shown(file.name)}</strong>${error ? html`<span class="err">${error}</span>` : nothing}</span
    >
    ${
      error
        ? state("failed", "not uploaded")
        : html`<progress max="1" .value=${share} aria-label="Upload of ${file.name}"></progress>
            <span class="meta nw">${Math.round(share * 100)} % of ${bytes(file.size)}</span>`
    }
  </li>`;

/** @param {Stored} file */
function stateOf(file) {
  if (file.status === "error") return state("failed", "not indexed");
  if (file.status === "ready") return state("ok", "ready");
  return html`<span class="row">
    ${state("running", "indexing")}
    <progress max="100" .value=${file.progress} aria-label="Indexing of ${file.file_name}"></progress>
  </span>`;
}
