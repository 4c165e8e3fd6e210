// Backups: one press writes one, and what there is says how old the newest is.
import { html } from "../../vendor/lit-html/lit-html.js";
import { api, part } from "../../core/api.js";
import { bytes, clock, whole } from "../../core/format.js";
import { Resource } from "../../core/resource.js";
import { say } from "../../core/say.js";
import { View } from "../../core/view.js";
import { sure } from "../../parts/dialog.js";
import { time } from "../../parts/head.js";
import { state } from "../../parts/state.js";
import { table } from "../../parts/table.js";
import { copy } from "../../parts/toast.js";

/** @typedef {import("../../../api.ts").Backup} Backup */
/** @typedef {import("../../../api.ts").BackupList} BackupList */
/** @typedef {import("../../../api.ts").WrittenBackup} WrittenBackup */

const LOOK_AGAIN = 2000;

class Backups extends View {
  #busy = false;
  /** @type {Error | null} */
  #wrong = null;
  /** @type {WrittenBackup | null} */
  #made = null;

  start() {
    this.backups = new Resource(this, (signal) => api.get("/backups", {}, signal));
    this.backups.reload();
    this.every(LOOK_AGAIN, () => this.backups?.value?.running && this.backups.reload());
  }

  async #backUp() {
    this.#busy = true;
    this.#wrong = null;
    this.update();
    try {
      const made = /** @type {WrittenBackup} */ (await api.post("/backups"));
      this.#made = made;
      say(`The backup ${made.name} is written`);
    } catch (error) {
      this.#wrong = /** @type {Error} */ (error);
    }
    this.#busy = false;
    this.update();
    this.backups?.reload();
  }

  /** @param {Backup} backup */
  async #delete(backup) {
    const words = html`<p>It is of ${whole(backup.made_at)}. The engine keeps no other copy of it.</p>`;
    if (!(await sure(`Delete ${backup.name}`, words))) return;
    try {
      await api.delete(`/backups/${part(backup.name)}`);
      this.#wrong = null;
      if (this.#made?.name === backup.name) this.#made = null;
      say(`${backup.name} is deleted`);
    } catch (error) {
      this.#wrong = /** @type {Error} */ (error);
    }
    this.backups?.reload();
  }

  draw() {
    const list = /** @type {BackupList | undefined} */ (this.backups?.value);
    const writing = this.#busy || list?.running;
    return html`
      <header class="row wrap">
        <div class="grow">
          <h2>Backup</h2>
          <p class="dim">
            One archive of database, keys and uploads, which belong together. The engine goes on meanwhile.
          </p>
        </div>
        ${writing ? state("running", "writing a backup") : ""}
        <button class="btn first" type="button" ?disabled=${Boolean(writing) || !list} @click=${this.#backUp}>
          Back up now
        </button>
      </header>
      ${this.#wrong ? html`<div class="note fail" role="alert">${this.#wrong.message}</div>` : ""}
      ${this.#made ? this.#done(this.#made) : ""} ${this.backups?.shown((found) => this.#list(found))}
    `;
  }

  /** @param {WrittenBackup} made */
  #done(made) {
    const counts = `${made.keys} ${made.keys === 1 ? "key" : "keys"} and ${made.uploads} ${made.uploads === 1 ? "upload" : "uploads"}`;
    return html`<div class="note ok">
      Written: ${bytes(made.bytes)}, the database, ${counts}.
      <span class="row wrap path"
        ><code class="grow">${made.path}</code>
        <button class="btn" type="button" @click=${() => copy(made.path)}>Copy the path</button></span
      >
    </div>`;
  }

  /** @param {BackupList} list */
  #list({ data, folder }) {
    const [newest] = data;
    return html`
      <p>
        ${
          newest
            ? html`The last one is of ${time(newest.made_at, clock, whole)}, ${bytes(newest.bytes)}.`
            : html`None was written here yet. <code>bytebrew backup</code> writes its own elsewhere.`
        }
        <span class="dim"
          >They are in <code>${folder}</code> on the engine’s machine. Copy them to another one: whoever has a backup
          can open every stored credential, so no route gives it away. <code>bytebrew restore FILE</code> puts one back
          while no engine runs.</span
        >
      </p>
      ${data.length ? table("Backups", this.#columns(), data, (one) => one.name) : ""}
    `;
  }

  /** @returns {import("../../parts/table.js").Column<Backup>[]} */
  #columns() {
    return [
      { title: "File", cell: (one) => html`<code>${one.name}</code>` },
      { title: "Written", nowrap: true, cell: (one) => time(one.made_at, clock, whole) },
      { title: "Size", num: true, cell: (one) => bytes(one.bytes) },
      {
        title: "Acts",
        hidden: true,
        num: true,
        cell: (one) =>
          html`<button
            class="btn plain"
            type="button"
            aria-label="Delete ${one.name}"
            @click=${() => this.#delete(one)}
          >
            Delete
          </button>`,
      },
    ];
  }
}
customElements.define("bb-backups", Backups);
