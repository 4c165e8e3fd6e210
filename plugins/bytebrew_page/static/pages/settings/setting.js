// One setting: its value in an input that fits, what is wrong with it, and the way back to its default.
import { html } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { api, part } from "../../core/api.js";
import { ago, whole } from "../../core/format.js";
import { say } from "../../core/say.js";
import { shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { sure } from "../../parts/dialog.js";
import { time } from "../../parts/head.js";
import { bounds, control, schemaOf, textOf, valueOf } from "./controls.js";
import { labelOf } from "./groups.js";
import { PREVIEWS } from "./previews.js";

/** @typedef {import("../../../api.ts").Setting} Setting */

const PATIENCE = 300;

export class SettingRow extends View {
  /** @type {Setting | null} */
  #setting = null;
  /** What is typed and not saved. @type {string | null} */
  #draft = null;
  #busy = false;
  /** What a switch is being set to. @type {boolean | null} */
  #wanted = null;
  #error = "";
  #preview = "";
  #timer = 0;

  /** @param {Setting} setting */
  set setting(setting) {
    this.#setting = setting;
    this.update();
  }

  /** @param {string} text */
  #type(text) {
    const setting = /** @type {Setting} */ (this.#setting);
    this.#draft = text === textOf(setting, setting.value) ? null : text;
    this.#error = "";
    this.#look(setting, text);
    this.update();
  }

  /** Counts what the value would do, once nothing is typed for a moment. @param {Setting} setting @param {string} text */
  #look(setting, text) {
    clearTimeout(this.#timer);
    this.#preview = "";
    const preview = PREVIEWS[setting.key];
    const days = Number(text);
    if (!preview || this.#draft === null || !Number.isInteger(days) || days <= 0) return;
    this.#timer = window.setTimeout(async () => {
      const words = await preview(days, this.left).catch(() => "");
      if (this.#draft !== text) return;
      this.#preview = words;
      this.update();
    }, PATIENCE);
  }

  #forget() {
    clearTimeout(this.#timer);
    this.#draft = null;
    this.#error = this.#preview = "";
    this.update();
  }

  /** @param {Event} event */
  async #save(event) {
    event.preventDefault();
    const setting = /** @type {Setting} */ (this.#setting);
    try {
      await this.#put(valueOf(setting, this.#draft ?? ""));
    } catch (error) {
      this.#error = `is no JSON: ${/** @type {Error} */ (error).message}`;
      this.update();
    }
  }

  /** @param {unknown} value */
  #put(value) {
    const key = /** @type {Setting} */ (this.#setting).key;
    return this.#change(() => api.put(`/settings/${part(key)}`, { value }), `${key} is saved`);
  }

  async #reset() {
    const { key, default: before } = /** @type {Setting} */ (this.#setting);
    if (key.startsWith("custom.") && !(await sure(`Delete ${key}`, "Programs that read it get a 404."))) return;
    const words = key.startsWith("custom.") ? `${key} is deleted` : `${key} has its default, ${JSON.stringify(before)}`;
    await this.#change(() => api.delete(`/settings/${part(key)}`), words);
  }

  /** @param {() => Promise<Setting | null>} run @param {string} words */
  async #change(run, words) {
    this.#busy = true;
    this.update();
    try {
      const changed = await run();
      if (changed) this.#setting = changed;
      this.#forget();
      say(words);
      this.dispatchEvent(new Event("saved"));
    } catch (error) {
      const { details, message } = /** @type {import("../../core/api.js").ApiError} */ (error);
      this.#error = details?.[0]?.message ?? message;
    }
    this.#busy = false;
    this.#wanted = null;
    this.update();
  }

  draw() {
    const setting = this.#setting;
    if (!setting) return "";
    const [id, described] = [`s-${setting.key}`, `d-${setting.key}`];
    const boolean = schemaOf(setting).type === "boolean";
    const hint = bounds(setting);
    return html`<form class="setting" novalidate @submit=${this.#save}>
      <div class="about">
        <label for=${id}>${shown(labelOf(setting.key))}</label>
        <div id=${described}>
          ${this.#error ? html`<div class="err" role="alert">${this.#error}</div>` : ""}
          <div class="hint"><code>${shown(setting.key)}</code>: ${setting.help}${hint ? html` (${hint})` : ""}</div>
          ${this.#preview ? html`<div class="hint wait">${this.#preview}</div>` : ""} ${this.#changed(setting)}
        </div>
      </div>
      <div class="control">${boolean ? this.#switch(setting, id, described) : this.#input(setting, id, described)}</div>
    </form>`;
  }

  /** @param {Setting} setting */
  #changed(setting) {
    if (!setting.updated_at) return "";
    const custom = setting.key.startsWith("custom.");
    return html`<div class="hint">
      Changed ${time(setting.updated_at, ago, whole)}.
      ${custom ? "" : html`Default: <code>${JSON.stringify(setting.default)}</code>.`}
      <button
        class="textlink"
        type="button"
        ?disabled=${this.#busy}
        aria-label="${custom ? "Delete" : "Reset"} ${setting.key}"
        @click=${this.#reset}
      >
        ${custom ? "Delete" : "Reset"}
      </button>
    </div>`;
  }

  /** @param {Setting} setting @param {string} id @param {string} described */
  #switch(setting, id, described) {
    const on = this.#wanted ?? Boolean(setting.value);
    return html`<span class="row"
      ><input
        type="checkbox"
        id=${id}
        aria-describedby=${described}
        ?disabled=${this.#busy}
        .checked=${live(on)}
        @change=${(/** @type {any} */ event) => this.#put((this.#wanted = event.target.checked))}
      />${on ? "on" : "off"}</span
    >`;
  }

  /** @param {Setting} setting @param {string} id @param {string} described */
  #input(setting, id, described) {
    const text = this.#draft ?? textOf(setting, setting.value);
    const how = { id, described, invalid: Boolean(this.#error), busy: this.#busy };
    return html`
      ${control(setting, text, (typed) => this.#type(typed), how)}
      ${
        this.#draft === null
          ? ""
          : html`<div class="row">
              <button class="btn first" type="submit" ?disabled=${this.#busy}>Save</button>
              <button class="btn plain" type="button" @click=${this.#forget}>Undo</button>
            </div>`
      }
    `;
  }
}
customElements.define("bb-setting", SettingRow);
