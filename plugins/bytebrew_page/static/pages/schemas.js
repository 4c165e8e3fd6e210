// Schemas: the list at the side, and the one that is open.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { keyed } from "../vendor/lit-html/directives/keyed.js";
import { api } from "../core/api.js";
import { may } from "../core/caller.js";
import { Resource } from "../core/resource.js";
import { to } from "../core/router.js";
import { shown } from "../core/text.js";
import { Page } from "../core/view.js";
import { empty, head } from "../parts/head.js";
import { newSchema } from "./schemas/new.js";
import "./schemas/schema.js";

export default class Schemas extends Page {
  /** @type {Resource<import("../../api.ts").Schema[]>} */
  #schemas = new Resource(this, (signal) => api.get("/schemas", {}, signal));

  get title() {
    return this.place.rest[0] ?? "Schemas";
  }

  start() {
    this.#schemas.reload();
    this.live(["config"], () => this.#schemas.reload());
  }

  async #make() {
    if (await newSchema()) this.#schemas.reload();
  }

  draw() {
    const make = may("schemas:write")
      ? html`<button class="btn first" type="button" @click=${() => this.#make()}>New schema</button>`
      : "";
    return html`
      ${head("Schemas", {
        words: "What people and programs talk to: a name, the agent that answers, and whom that may ask.",
        acts: this.#schemas.value?.length ? make : "",
      })}
      ${this.#schemas.shown((all) =>
        all.length
          ? this.#both(all)
          : empty(
              "There is no schema yet",
              "A schema is the public name of an agent: chats, keys and the widget name it.",
              make,
            ),
      )}
    `;
  }

  /** @param {import("../../api.ts").Schema[]} all */
  #both(all) {
    const chosen = this.place.rest[0] ?? all[0].name;
    return html`<div class="mcp schemas">
      <nav aria-label="Schemas">
        <ul>
          ${all.map(
            (one) =>
              html`<li>
                <a class="to" href=${to`/schemas/${one.name}`} aria-current=${one.name === chosen ? "page" : nothing}>
                  <span class="grow clip">${shown(one.name)}</span>
                  <span class="meta">${one.chat_enabled ? "" : "chat off"}</span>
                </a>
              </li>`,
          )}
        </ul>
      </nav>
      ${keyed(
        chosen,
        html`<bb-schema
          .name=${chosen}
          .connect=${this.query("connect")}
          .changed=${() => this.#schemas.reload()}
        ></bb-schema>`,
      )}
    </div>`;
  }
}
