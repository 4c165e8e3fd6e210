// Models: what is configured with what a verification said, one open beside the list, and the catalog below.
import { html } from "../vendor/lit-html/lit-html.js";
import { keyed } from "../vendor/lit-html/directives/keyed.js";
import { api } from "../core/api.js";
import { may } from "../core/caller.js";
import { ago, whole } from "../core/format.js";
import { Resource } from "../core/resource.js";
import { to } from "../core/router.js";
import { Page } from "../core/view.js";
import { summary } from "../parts/checks.js";
import { empty, head, time } from "../parts/head.js";
import { state, tag } from "../parts/state.js";
import { table } from "../parts/table.js";
import { catalog, dollars } from "./models/catalog.js";
import "./models/detail.js";
import "./models/form.js";

/** @typedef {import("../../api.ts").Model} Model */
/** @typedef {import("../../api.ts").CatalogModel} CatalogModel */
/** @typedef {import("../../api.ts").CatalogProvider} CatalogProvider */

export default class Models extends Page {
  /** @type {Resource<Model[]>} */
  #models = new Resource(this, (signal) => api.get("/models", {}, signal));
  /** @type {Resource<[CatalogModel[], CatalogProvider[]]>} */
  #catalog = new Resource(this, (signal) =>
    Promise.all([api.get("/models/registry", {}, signal), api.get("/models/registry/providers", {}, signal)]),
  );

  get title() {
    return "Models";
  }

  start() {
    this.#models.reload();
    this.#catalog.reload();
    this.live(["config"], () => this.#models.reload());
  }

  draw() {
    const beside = this.#beside();
    return html`
      ${head(this.title, {
        words: "What agents think with. A key is written once and never shown again.",
        acts: may("models:write") ? html`<a class="btn first" href="/models?new=1">Add a model</a>` : "",
      })}
      <div class=${beside ? "cols" : ""}>
        <div class="stack wide">
          ${this.#models.shown((models) => this.#list(models))}
          ${this.#catalog.shown(([models, vendors]) => catalog(models, vendors, this.place.query, may("models:write")))}
        </div>
        ${beside}
      </div>
    `;
  }

  /** @param {Model[]} models */
  #list(models) {
    if (!models.length)
      return empty(
        "No model yet",
        "An agent needs a model to think with: one of a vendor, with a key, or one on this machine.",
        may("models:write") ? html`<a class="btn" href="/models?new=1">Add a model</a>` : "",
      );
    return table(
      "Models",
      [
        {
          title: "Name",
          cell: (one) =>
            html`<div>
              <a class="main" href=${to`/models?name=${one.name}`}>${one.name}</a>
              ${one.is_default ? tag("default") : ""}
            </div>`,
        },
        {
          title: "Model",
          cell: (one) =>
            html`<div class="mono">${one.model_name}</div>
              <div class="meta">${one.type}${one.kind === "embedding" ? " · embedding" : ""}</div>`,
        },
        { title: "Falls back to", cell: (one) => one.fallback.join(", ") || "–", label: true },
        { title: "In / out", cell: (one) => this.#price(one), num: true, label: true },
        {
          title: "Verified",
          cell: (one) => {
            const [kind, words] = summary(one.last_verified);
            return html`<div>${state(kind, words)}</div>
              ${one.last_verified ? html`<div class="meta">${time(one.last_verified.at, ago, whole)}</div>` : ""}`;
          },
        },
      ],
      models,
      (one) => one.name,
      { current: this.query("name") },
    );
  }

  /** @param {Model} model */
  #price(model) {
    if (model.type === "demo") return "free";
    const known = this.#known(model);
    const [into, out] = [model.pricing_input ?? known?.pricing_input, model.pricing_output ?? known?.pricing_output];
    return into === undefined && out === undefined ? "no price" : `${dollars(into ?? null)} / ${dollars(out ?? null)}`;
  }

  /** What the catalog has of a model. @param {Model} model */
  #known(model) {
    return this.#catalog.value?.[0].find((one) => one.id === model.model_name);
  }

  /** What is open beside the list. */
  #beside() {
    const [models, known] = [this.#models.value, this.#catalog.value];
    const name = this.query("name");
    const adds = this.query("new") === "1" && may("models:write");
    if (!models || (!name && !adds)) return "";
    const model = adds ? null : models.find((one) => one.name === name);
    const changed = () => this.#models.reload();
    if (model === undefined)
      return html`<aside class="card inspect" aria-label="Model ${name}">
        <p>There is no model ${name} any more. <a href="/models">All models</a></p>
      </aside>`;
    if (model && this.query("edit") !== "1")
      return html`<aside class="card inspect first" aria-label="Model ${name}">
        <bb-model .data=${{ model, known: this.#known(model) }} @changed=${changed}></bb-model>
      </aside>`;
    if (!known) return "";
    const data = { model, use: this.query("use"), models, known: known[0], vendors: known[1] };
    return html`<aside class="card inspect first" aria-label=${model ? `Edit ${name}` : "Add a model"}>
      ${keyed(`${name} ${data.use}`, html`<bb-model-form .data=${data} @changed=${changed}></bb-model-form>`)}
    </aside>`;
  }
}
