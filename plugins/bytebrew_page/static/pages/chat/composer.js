// Where a message is written: files beside it, and what the engine says where it cannot take it.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { newKey } from "../../core/api.js";
import { bytes } from "../../core/format.js";
import { icon } from "../../core/icons.js";
import { talk } from "../../core/text.js";
import { View } from "../../core/view.js";

/** @typedef {import("./conversation.js").Outgoing} Outgoing */
/** @typedef {"send" | "steer" | "queue"} Mode */
/** @typedef {{ media_type: string, name: string, data: string, size: number }} File64 */

const MOST_FILES = 20;
const MOST_BYTES = 35 * 1024 * 1024; // 50 MB, which a body with files may have, in base64

/**
 * The field of a chat. `.send` sends, and throws the refusal; `.busy` says that a turn runs, `.waits` that it waits for
 * a person; `.editing` is the message that the next one takes the place of.
 */
export class Composer extends View {
  /** @type {(out: Outgoing, mode: Mode) => Promise<void>} */
  send = async () => {};
  stop = () => {};
  /** Up in an empty field. */
  last = () => {};
  unedit = () => {};
  /** Why nothing can be sent, "" if it can. */
  refused = "";
  #text = "";
  /** @type {File64[]} */
  #files = [];
  #error = "";
  #code = "";
  #sending = false;
  #over = false;
  #key = "";
  #state = "";

  /** @param {{ busy: boolean, waits: boolean, editing: boolean, refused: string }} now */
  set now(now) {
    const text = JSON.stringify(now);
    if (text !== this.#state) this.update();
    this.#state = text;
    this.refused = now.refused;
  }

  get #now() {
    return JSON.parse(this.#state || "{}");
  }

  /** Puts a text into the field, to be changed. @param {string} text */
  write(text) {
    this.#text = text;
    this.#key = "";
    this.#error = "";
    this.update();
    queueMicrotask(() => {
      this.#field?.focus();
      this.#field?.setSelectionRange(text.length, text.length);
    });
  }

  focus() {
    this.#field?.focus();
  }

  get #field() {
    return this.querySelector("textarea");
  }

  /** @param {Mode} mode */
  async #send(mode) {
    const text = this.#text.trim();
    if (!text || this.#sending || this.refused) return;
    this.#key ||= newKey();
    this.#sending = true;
    this.#error = "";
    this.update();
    const attachments = this.#files.map(({ media_type, name, data }) => ({ media_type, name, data }));
    this.#text = "";
    const files = this.#files;
    this.#files = [];
    try {
      await this.send({ message: text, content: text, attachments, key: this.#key }, mode);
      this.#key = "";
    } catch (error) {
      const { status, message, code } = /** @type {import("../../core/api.js").ApiError} */ (error);
      this.#text = text;
      this.#files = files;
      this.#error = status
        ? message
        : "The engine did not answer; the message may not have arrived. Send it again: it counts once.";
      this.#code = code ?? "";
      if (status) this.#key = ""; // a refusal is an answer: the next try is another request
    }
    this.#sending = false;
    this.update();
  }

  /** @param {Iterable<globalThis.File>} found */
  async #attach(found) {
    this.#error = "";
    this.#code = "";
    for (const file of found) {
      const size = this.#files.reduce((sum, one) => sum + one.size, file.size);
      if (this.#files.length >= MOST_FILES) this.#error = `A message has ${MOST_FILES} files at most.`;
      else if (size > MOST_BYTES)
        this.#error = `Files of a message have ${bytes(MOST_BYTES)} together at most; ${file.name} is left out.`;
      else if (!file.size) this.#error = `${file.name} is empty, and left out.`;
      else {
        const media_type = /^[a-z]+\/[a-z0-9][a-z0-9.+-]*$/.test(file.type) ? file.type : "application/octet-stream";
        this.#files.push({ media_type, name: file.name.slice(-255), data: await base64(file), size: file.size });
      }
    }
    this.#key = "";
    this.update();
    this.focus();
  }

  /** @param {KeyboardEvent} event */
  #pressed(event) {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.#send(this.#now.busy ? "steer" : "send");
    } else if (event.key === "ArrowUp" && !this.#text && !this.#now.editing) {
      event.preventDefault();
      this.last();
    } else if (event.key === "Escape" && this.#now.editing) this.unedit();
  }

  /** @param {ClipboardEvent} event */
  #pasted(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    this.#attach(files);
  }

  /** @param {DragEvent} event */
  #dropped(event) {
    event.preventDefault();
    this.#over = false;
    this.update();
    this.#attach([...(event.dataTransfer?.files ?? [])]);
  }

  /** @param {DragEvent} event @param {boolean} over */
  #dragged(event, over) {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    if (over !== this.#over) this.update();
    this.#over = over;
  }

  draw() {
    const { busy, editing } = this.#now;
    const words = editing
      ? "Another message in its place"
      : busy
        ? "Tell the running turn something"
        : "Write a message";
    return html`<form
      class=${this.#over ? "over" : ""}
      @submit=${(/** @type {Event} */ event) => (event.preventDefault(), this.#send(busy ? "steer" : "send"))}
      @dragover=${(/** @type {DragEvent} */ event) => this.#dragged(event, true)}
      @dragleave=${(/** @type {DragEvent} */ event) => this.#dragged(event, false)}
      @drop=${this.#dropped}
    >
      ${
        editing
          ? html`<p class="line">
              <span class="grow">The message is sent in a fork; this session stays as it is.</span>
              <button class="btn plain" type="button" @click=${this.unedit}>Keep the message</button>
            </p>`
          : nothing
      }
      ${
        this.#error
          ? html`<p class="line fail" role="alert">
              ${talk(this.#error)} ${this.#code ? html`<code>${this.#code}</code>` : nothing}
            </p>`
          : nothing
      }
      <textarea
        rows="2"
        maxlength="1000000"
        aria-label="Message"
        placeholder=${this.refused || words}
        ?disabled=${Boolean(this.refused)}
        .value=${live(this.#text)}
        @input=${(/** @type {Event} */ event) => this.#input(/** @type {HTMLTextAreaElement} */ (event.target).value)}
        @keydown=${this.#pressed}
        @paste=${this.#pasted}
      ></textarea>
      ${this.#files.length ? this.#chips() : nothing}
      <div class="under">
        <input
          type="file"
          multiple
          hidden
          @change=${(/** @type {Event} */ event) => this.#chosen(/** @type {HTMLInputElement} */ (event.target))}
        />
        <button
          class="btn plain"
          type="button"
          aria-label="Attach files"
          title="Attach files"
          ?disabled=${Boolean(this.refused)}
          @click=${() => /** @type {HTMLElement} */ (this.querySelector("input[type=file]")).click()}
        >
          ${icon("clip")}
        </button>
        <span class="meta hide-s">Enter sends · Shift-Enter a new line</span>
        <span class="grow"></span>
        ${this.#buttons()}
      </div>
    </form>`;
  }

  #buttons() {
    const { busy, editing } = this.#now;
    const off = !this.#text.trim() || this.#sending || Boolean(this.refused);
    if (!busy || editing) return html`<button class="btn first" type="submit" ?disabled=${off}>Send</button>`;
    return html`
      <button class="btn plain" type="button" title="Ctrl ." @click=${this.stop}>${icon("stop")}Stop</button>
      ${
        this.#text.trim()
          ? html`<button
              class="btn"
              type="button"
              title="It is answered once the running turn has ended"
              ?disabled=${off}
              @click=${() => this.#send("queue")}
            >
              Queue
            </button>`
          : nothing
      }
      <button class="btn first" type="submit" title="The running turn reads it at its next step" ?disabled=${off}>
        Steer
      </button>
    `;
  }

  #chips() {
    return html`<ul class="files" aria-label="Files of the message">
      ${this.#files.map(
        (file, n) =>
          html`<li>
            ${
              file.media_type.startsWith("image/") && file.size < 2 ** 21
                ? html`<img alt="" src="data:${file.media_type};base64,${file.data}" />`
                : nothing
            }
            <span class="clip">${talk(file.name)}</span> <span class="meta">${bytes(file.size)}</span>
            <button
              class="btn plain"
              type="button"
              aria-label="Remove ${file.name}"
              @click=${() => (this.#files.splice(n, 1), this.update())}
            >
              ×
            </button>
          </li>`,
      )}
    </ul>`;
  }

  /** @param {string} text */
  #input(text) {
    if (text !== this.#text) this.#key = "";
    this.#text = text;
    this.update();
  }

  /** @param {HTMLInputElement} input */
  #chosen(input) {
    this.#attach([...(input.files ?? [])]);
    input.value = "";
  }
}
customElements.define("bb-composer", Composer);

/** @param {globalThis.File} file @returns {Promise<string>} */
function base64(file) {
  return new Promise((found, failed) => {
    const reader = new FileReader();
    reader.onload = () => found(String(reader.result).replace(/^[^,]*,/, ""));
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });
}
