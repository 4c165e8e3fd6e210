// The configuration as it is now, to copy and to keep, and the file that the engine takes in at its start.
import { html } from "../../vendor/lit-html/lit-html.js";
import { api, request } from "../../core/api.js";
import { may } from "../../core/caller.js";
import { bytes, int } from "../../core/format.js";
import { Resource } from "../../core/resource.js";
import { say } from "../../core/say.js";
import { shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { code } from "../../parts/code.js";

/** @typedef {{ text: string, version: string }} Export */
/** @typedef {import("../../../api.ts").EnvironmentSetting} EnvironmentSetting */

const NAME = "bytebrew-config.yaml";

class ConfigExport extends View {
  #file = "";
  #busy = false;
  #reloaded = "";
  /** @type {Error | null} */
  #wrong = null;

  start() {
    this.exported = new Resource(this, async (signal) => {
      const response = await request("GET", "/config/export", { signal });
      const version = (response.headers.get("etag") ?? "").replace(/^(W\/)?"|"$/g, "");
      return { text: await response.text(), version };
    });
    this.exported.reload();
    this.live(["config"], (change) => change && this.exported?.reload());
    if (may("admin")) this.#find();
  }

  /** The file of BYTEBREW_CONFIG, which an admin may know. */
  async #find() {
    const rows = /** @type {EnvironmentSetting[]} */ (await api.get("/environment", {}, this.left).catch(() => []));
    this.#file = rows.find((row) => row.name === "BYTEBREW_CONFIG")?.value ?? "";
    this.update();
  }

  /** @param {Export} exported */
  #download({ text }) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/yaml" }));
    link.download = NAME;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href));
  }

  async #reload() {
    this.#busy = true;
    this.#wrong = null;
    this.update();
    try {
      const { agents_loaded: agents, models_loaded: models } = await api.post("/config/reload");
      this.#reloaded = `Reloaded: ${int(agents)} agents and ${int(models)} models are there.`;
      say(this.#reloaded);
    } catch (error) {
      this.#reloaded = "";
      this.#wrong = /** @type {Error} */ (error);
    }
    this.#busy = false;
    this.exported?.reload();
    this.update();
  }

  draw() {
    return html`
      ${this.exported?.shown((exported) => this.#exported(exported))}
      <section class="block" aria-labelledby="reload-title">
        <h2 id="reload-title">Reload</h2>
        <p class="dim">
          ${
            this.#file
              ? html`The engine takes in <code>${shown(this.#file)}</code> at each start. Reload does so now, and
                  connects to MCP servers anew.`
              : html`Connects to MCP servers anew, and takes in the file of <code>BYTEBREW_CONFIG</code> if that is set.`
          }
          Turns that run keep what they began with.
        </p>
        ${this.#wrong ? html`<div class="note fail" role="alert">${this.#wrong.message}</div>` : ""}
        <div class="row wrap gap">
          <button class="btn" type="button" ?disabled=${this.#busy} @click=${this.#reload}>Reload</button>
          ${this.#reloaded ? html`<span>${this.#reloaded}</span>` : ""}
        </div>
      </section>
    `;
  }

  /** @param {Export} exported */
  #exported(exported) {
    const { text, version } = exported;
    return html`
      <div class="row wrap">
        <p class="grow dim">
          Each credential is a <code>\${VAR}</code>, which the engine that imports it reads from its environment.
        </p>
        <span class="meta">version <code>${version.slice(0, 12)}</code> · ${bytes(new Blob([text]).size)}</span>
        <button class="btn first" type="button" @click=${() => this.#download(exported)}>Download</button>
      </div>
      <div class="yaml">${code(NAME, shown(text), text)}</div>
    `;
  }
}
customElements.define("bb-config-export", ConfigExport);
