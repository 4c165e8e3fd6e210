// One model beside the list: what its verification said, its key, and what else there is to it.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { repeat } from "../../vendor/lit-html/directives/repeat.js";
import { ApiError, api, part } from "../../core/api.js";
import { may } from "../../core/caller.js";
import { ago, usd, whole } from "../../core/format.js";
import { go, to } from "../../core/router.js";
import { say } from "../../core/say.js";
import { View } from "../../core/view.js";
import { checks, summary, verdict } from "../../parts/checks.js";
import { sure } from "../../parts/dialog.js";
import { faults, field } from "../../parts/field.js";
import { time } from "../../parts/head.js";
import { secret } from "../../parts/secret.js";
import { state } from "../../parts/state.js";
import { toast } from "../../parts/toast.js";
import { dollars } from "./catalog.js";

/** @typedef {import("../../../api.ts").Model} Model */
/** @typedef {import("../../../api.ts").CatalogModel} CatalogModel */

/** `<bb-model .data=${{ model, known }}>`; it dispatches `changed` after it has changed anything. */
class ModelDetail extends View {
  /** @type {Model | null} */
  #model = null;
  /** @type {CatalogModel | undefined} */
  #known = undefined;
  #key = "";
  /** What is under way: verify, save, default or delete. */
  #busy = "";
  /** @type {ApiError | null} */
  #error = null;
  /** @type {number | null} */
  #cost = null;

  /** @param {{ model: Model, known: CatalogModel | undefined }} data */
  set data({ model, known }) {
    if (model.name !== this.#model?.name) {
      this.#key = "";
      this.#error = null;
      this.#cost = null;
      this.#sum(model.name);
    }
    this.#model = model;
    this.#known = known;
    this.update();
  }

  /** What the model has cost in seven days, for those who may know. @param {string} name */
  async #sum(name) {
    if (!may("admin")) return;
    const from = new Date(Date.now() - 7 * 86_400_000).toISOString();
    const rows = await api.get("/usage", { group_by: "model", from }).catch(() => null);
    if (name !== this.#model?.name) return;
    this.#cost =
      (rows?.data ?? rows?.groups ?? rows ?? []).find?.((/** @type {any} */ one) => one.key === name)?.cost_usd ?? null;
    this.update();
  }

  /**
   * Does one thing after the other, and says so.
   * @param {string} what
   * @param {(path: string) => Promise<unknown>} run
   */
  async #act(what, run) {
    this.#busy = what;
    this.#error = null;
    this.update();
    try {
      await run(`/models/${part(this.#model?.name ?? "")}`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#error = error;
    } finally {
      this.#busy = "";
      this.update();
      this.dispatchEvent(new CustomEvent("changed"));
    }
  }

  #verify() {
    const key = this.#key;
    return this.#act("verify", async (path) => {
      if (key) await api.patch(path, { api_key: key });
      this.#key = "";
      const [, words] = summary(await api.post(`${path}/verify`));
      say(`${this.#model?.name}: ${words}`);
    });
  }

  async #delete() {
    const { name = "" } = this.#model ?? {};
    if (!(await sure(`Delete model ${name}`, "Its key is deleted with it. What it has cost stays in the usage.")))
      return;
    await this.#act("delete", async (path) => {
      await api.delete(path);
      toast(`Model ${name} is deleted`);
      go("/models");
    });
  }

  draw() {
    const model = this.#model;
    if (!model) return nothing;
    const verification = model.last_verified;
    const [kind, words] = summary(verification);
    const writes = may("models:write");
    const wrong = faults(this.#error, ["$.api_key"]);
    return html`
      <div class="row">
        <h2 class="grow" tabindex="-1">${model.name}</h2>
        ${this.#busy === "verify" ? state("running", "verifying") : state(kind, words)}
      </div>
      ${
        this.#busy === "verify"
          ? checks(null)
          : verification
            ? html`${checks(verification)} ${verdict(verification)}
                <p class="meta">Verified ${time(verification.at, ago, whole)}</p>`
            : html`<p class="dim">Nobody has verified this model since it was last changed.</p>`
      }
      ${writes ? this.#form(model, wrong) : html`<p class="meta">Changing it needs the scope <code>models:write</code>.</p>`}
      ${wrong[""] ? this.#refusal(wrong[""]) : ""}
      ${
        writes
          ? html`<div class="row wrap">
              <a class="btn" href=${to`/models?name=${model.name}&edit=1`}>Edit</a>
              ${
                model.is_default || model.kind !== "chat"
                  ? ""
                  : html`<button
                      class="btn"
                      type="button"
                      ?disabled=${this.#busy !== ""}
                      @click=${() => this.#act("default", (path) => api.patch(path, { is_default: true }))}
                    >
                      Make it the default
                    </button>`
              }
              <button class="btn no" type="button" ?disabled=${this.#busy !== ""} @click=${() => this.#delete()}>
                Delete
              </button>
            </div>`
          : ""
      }
      ${this.#facts(model)}
    `;
  }

  /** @param {Model} model @param {Record<string, string>} wrong */
  #form(model, wrong) {
    const busy = this.#busy !== "";
    return html`<form
      class="stack"
      @submit=${(/** @type {SubmitEvent} */ event) => (event.preventDefault(), this.#verify())}
    >
      ${
        model.type === "demo"
          ? ""
          : field(
              "API key",
              "$.api_key",
              { hint: "Sealed on disk. In no answer, log, export or audit row.", error: wrong["$.api_key"] },
              (id, described, invalid) =>
                secret(id, described, {
                  value: this.#key,
                  stored: model.has_api_key,
                  invalid,
                  write: (text) => ((this.#key = text), this.update()),
                }),
            )
      }
      <div class="row wrap">
        <button class="btn first" type="submit" ?disabled=${busy}>
          ${this.#key ? "Save and verify" : model.last_verified ? "Verify again" : "Verify"}
        </button>
      </div>
    </form>`;
  }

  /** @param {string} words */
  #refusal(words) {
    const users = this.#error?.details ?? [];
    return html`<div class="note fail" role="alert">
      ${words}
      ${
        this.#error?.status === 409 && users.length
          ? html`<ul>
              ${users.map(({ path, message }) => html`<li><a href=${path === "$.models" ? to`/models?name=${message}` : to`/agents/${message}`}>${message}</a></li>`)}
            </ul>`
          : ""
      }
    </div>`;
  }

  /** @param {Model} model */
  #facts(model) {
    const known = this.#known;
    const own = model.pricing_input !== null || model.pricing_output !== null;
    const [into, out] = own
      ? [model.pricing_input, model.pricing_output]
      : [known?.pricing_input ?? null, known?.pricing_output ?? null];
    /** @type {[string, unknown][]} */
    const facts = [
      ["Type", model.type],
      ["Model", html`<span class="mono">${model.model_name}</span>`],
      ["Address", model.base_url ? html`<span class="mono">${model.base_url}</span>` : "the vendor's own"],
      [
        "In / out",
        into === null && out === null
          ? "no price"
          : html`${dollars(into)} / ${dollars(out)}${own ? "" : html` <span class="meta">catalog</span>`}`,
      ],
      ["Falls back to", model.fallback.length ? links(model.fallback, (name) => to`/models?name=${name}`) : "–"],
      ["Used by", model.used_by.length ? links(model.used_by, (name) => to`/agents/${name}`) : "no agent"],
    ];
    if (may("admin")) facts.push(["Cost, 7 d", usd(this.#cost)]);
    return html`<dl class="facts">
      ${facts.map(
        ([name, value]) =>
          html`<dt>${name}</dt>
            <dd>${value}</dd>`,
      )}
    </dl>`;
  }
}
customElements.define("bb-model", ModelDetail);

/** @param {string[]} names @param {(name: string) => string} address */
const links = (names, address) =>
  repeat(
    names,
    (name) => name,
    (name, n) => html`${n ? ", " : ""}<a href=${address(name)}>${name}</a>`,
  );
