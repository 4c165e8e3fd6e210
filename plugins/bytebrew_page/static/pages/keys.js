// API keys: who may call the engine, what each may do, and until when.
import { html } from "../vendor/lit-html/lit-html.js";
import { api, part } from "../core/api.js";
import { caller } from "../core/caller.js";
import { ago, day, whole, ZONE } from "../core/format.js";
import { Resource } from "../core/resource.js";
import { setQuery } from "../core/router.js";
import { say } from "../core/say.js";
import { shown } from "../core/text.js";
import { Page } from "../core/view.js";
import { dialog, sure } from "../parts/dialog.js";
import { empty, head, time } from "../parts/head.js";
import { state, tag } from "../parts/state.js";
import { table } from "../parts/table.js";
import { bones } from "../parts/bones.js";
import "./keys/new_key.js";

/** @typedef {import("../../api.ts").Token} Token */

const SOON = 7 * 86_400_000;

export default class Keys extends Page {
  /** @type {Error | null} */
  #wrong = null;
  #open = false;

  get title() {
    return "API keys";
  }

  start() {
    this.keys = new Resource(this, (signal) => api.get("/auth/tokens", {}, signal));
    this.keys.reload();
    this.moved();
  }

  moved() {
    this.update();
    if (this.query("new") && !this.#open) this.#make();
  }

  async #make() {
    this.#open = true;
    const chosen = { purpose: this.query("purpose") || undefined, schema: this.query("schema") || undefined };
    const result = await dialog(
      "New API key",
      (close) => html`<bb-new-key class="stack" .done=${close} .chosen=${chosen}></bb-new-key>`,
      { kind: "box key" },
    );
    this.#open = false;
    setQuery({ new: null, purpose: null, schema: null });
    if (result) this.keys?.reload();
  }

  /** @param {Token} key */
  async #revoke(key) {
    const words = html`<p>
      Whoever holds it is refused from now on, and its open streams end within 15 seconds. This cannot be undone.
    </p>`;
    if (!(await sure(`Revoke ${key.name}`, words))) return;
    try {
      await api.delete(`/auth/tokens/${part(key.id)}`);
      this.#wrong = null;
      say(`${key.name} is revoked`);
    } catch (error) {
      this.#wrong = /** @type {Error} */ (error);
    }
    this.keys?.reload();
  }

  draw() {
    const add = html`<button class="btn first" type="button" @click=${() => setQuery({ new: 1 }, { push: true })}>
      New key
    </button>`;
    return html`
      ${head(this.title, {
        words: html`Programs call the engine with a key. A token is shown once, when it is made. Times are in ${ZONE}.`,
        acts: this.keys?.value?.length ? add : "",
      })}
      ${this.#wrong ? html`<div class="note fail" role="alert">${this.#wrong.message}</div>` : ""}
      ${this.keys?.shown(
        (keys) =>
          keys.length
            ? table("API keys", this.#columns(), keys, (key) => key.id)
            : empty(
                "No API keys yet",
                "A server, a pipeline or a web page needs one to call the engine. People sign in by the link that the engine prints.",
                add,
              ),
        () => bones(["Key", "May", "Schemas", "Expires", "Last used"]),
      )}
    `;
  }

  /** @returns {import("../parts/table.js").Column<Token>[]} */
  #columns() {
    const own = caller()?.subject;
    return [
      {
        title: "Key",
        cell: (key) =>
          html`<b class="item-name">${shown(key.name)}</b> ${own === `token:${key.id}` ? tag("yours") : ""}`,
      },
      {
        title: "May",
        cell: (key) =>
          html`<span class="tags">${key.scopes.map(tag)} ${key.view === "public" ? tag("answers alone") : ""}</span>`,
      },
      {
        title: "Schemas",
        label: true,
        cell: (key) => (key.schemas ? html`<span class="two">${shown(key.schemas.join(", "))}</span>` : "every"),
      },
      { title: "Expires", label: true, nowrap: true, cell: end },
      {
        title: "Last used",
        label: true,
        nowrap: true,
        cell: (key) => (key.last_used_at ? time(key.last_used_at, ago, whole) : "never"),
      },
      {
        title: "Acts",
        hidden: true,
        num: true,
        cell: (key) =>
          html`<button
            class="btn plain"
            type="button"
            aria-label="Revoke ${key.name}"
            @click=${() => this.#revoke(key)}
          >
            Revoke
          </button>`,
      },
    ];
  }
}

/** @param {Token} key */
function end(key) {
  if (!key.expires_at) return "never";
  const left = new Date(key.expires_at).getTime() - Date.now();
  if (left <= 0) return state("cancelled", "expired");
  const words = time(key.expires_at, day, whole);
  return left < SOON ? html`<span class="state alert"><span>${words}, soon</span></span>` : words;
}
