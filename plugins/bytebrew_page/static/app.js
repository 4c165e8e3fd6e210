// The shell: who is signed in, where the reader is, and the page for it.
import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { api, connection } from "./core/api.js";
import { icon } from "./core/icons.js";
import { followLinks, moves, place } from "./core/router.js";
import { signIn, takeLink, token } from "./core/session.js";
import { View } from "./core/view.js";

/** The pages by the first word of their address, each an element that its module defines. */
const PAGES = {
  inbox: () => import("./pages/inbox.js"),
  chat: () => import("./pages/chat.js"),
  sessions: () => import("./pages/sessions.js"),
  tasks: () => import("./pages/tasks.js"),
  agents: () => import("./pages/agents.js"),
  schemas: () => import("./pages/schemas.js"),
  models: () => import("./pages/models.js"),
  tools: () => import("./pages/tools.js"),
  knowledge: () => import("./pages/knowledge.js"),
  usage: () => import("./pages/usage.js"),
  keys: () => import("./pages/keys.js"),
  audit: () => import("./pages/audit.js"),
  config: () => import("./pages/config.js"),
  settings: () => import("./pages/settings.js"),
  plugins: () => import("./pages/plugins.js"),
  start: () => import("./pages/start.js"),
};

/** @type {[string, [keyof typeof PAGES, string][]][]} */
const NAV = [
  [
    "",
    [
      ["inbox", "Inbox"],
      ["chat", "Chat"],
      ["sessions", "Sessions"],
      ["tasks", "Tasks"],
    ],
  ],
  [
    "Build",
    [
      ["agents", "Agents"],
      ["schemas", "Schemas"],
      ["models", "Models"],
      ["tools", "Tools"],
      ["knowledge", "Knowledge"],
    ],
  ],
  [
    "Oversight",
    [
      ["usage", "Usage and budgets"],
      ["keys", "API keys"],
      ["audit", "Audit"],
    ],
  ],
  [
    "Engine",
    [
      ["config", "Configuration"],
      ["settings", "Settings"],
      ["plugins", "Plugins and backup"],
    ],
  ],
];

class App extends View {
  /** @type {import("./core/view.js").Page | null} */
  #page = null;
  #name = "";
  #health = { version: "", uptime: "", status: "" };

  async start() {
    document.documentElement.dataset.theme = localStorage.getItem("bytebrew.theme") ?? "";
    const link = takeLink();
    if (link !== null && !token()) await signIn(link).catch((error) => (this.wrong = error.message));
    followLinks((word) => word in PAGES || word === "admin");
    moves.addEventListener("moved", () => this.#show(), { signal: this.left });
    this.#health = await api.get("/health").catch(() => this.#health);
    this.#show();
  }

  async #show() {
    const where = place();
    const name = where.page in PAGES ? where.page : "inbox";
    if (name !== this.#name) {
      const { default: Shown } = await PAGES[/** @type {keyof typeof PAGES} */ (name)]();
      if (!customElements.getName(Shown)) customElements.define(`bb-${name}`, Shown);
      this.#page = new Shown();
      this.#name = name;
      this.#page.place = where;
      this.update();
      queueMicrotask(() => {
        document.title = `${this.#page?.title} · ByteBrew`;
        /** @type {HTMLElement | null | undefined} */ (this.#page?.querySelector("h1"))?.focus();
      });
    } else if (this.#page) {
      this.#page.place = where;
      this.#page.moved();
      this.update();
    }
    document.documentElement.dataset.page = name;
  }

  draw() {
    return html`
      <nav class="rail" aria-label="Main">
        <a class="brand" href="/">ByteBrew</a>
        ${NAV.map(
          ([title, pages]) =>
            html`${title ? html`<h2>${title}</h2>` : nothing}
              <ul>
                ${pages.map(
                  ([name, words]) =>
                    html`<li>
                      <a
                        class="to"
                        href=${name === "inbox" ? "/" : `/${name}`}
                        aria-current=${name === this.#name ? "page" : nothing}
                        >${icon(name)}${words}</a
                      >
                    </li>`,
                )}
              </ul>`,
        )}
        <div class="foot"><span>${this.#health.version} · up ${this.#health.uptime}</span></div>
      </nav>
      <main id="main" tabindex="-1">${this.#page}</main>
      <div class="sr" aria-live="polite" id="said"></div>
    `;
  }
}
customElements.define("bb-app", App);
