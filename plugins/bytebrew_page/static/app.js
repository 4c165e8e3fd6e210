// The shell: who is signed in, where the reader is, and the page for it.
import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { api, connection } from "./core/api.js";
import { caller, learn, may } from "./core/caller.js";
import { clock } from "./core/format.js";
import { applyTheme, changeTheme } from "./core/preferences.js";
import { followLinks, go, moves, place } from "./core/router.js";
import { say } from "./core/say.js";
import { keep, signIn, takeLink } from "./core/session.js";
import { View } from "./core/view.js";
import { dialog } from "./parts/dialog.js";
import { head } from "./parts/head.js";
import { help, listenToKeys } from "./shell/keys.js";
import { palette } from "./shell/palette.js";
import { PAGES } from "./shell/pages.js";
import { rail, tabs } from "./shell/rail.js";
import { remember } from "./shell/recent.js";
import { askToSignIn } from "./shell/sign_in.js";
import { holdWrites, Watch } from "./shell/watch.js";

const link = takeLink(); // before anything else reads the address
const HEALTH_EVERY = 30_000;
const ARRIVAL = 5000;
const STARTED = "bytebrew.started";
applyTheme();

class App extends View {
  /** @type {import("./core/view.js").Page | null} */
  #page = null;
  #name = "";
  #path = "";
  #waiting = 0;
  /** @type {Error | null} */
  #wrong = null;
  /** What is called once somebody has signed in. @type {(() => void) | null} */
  #signedIn = null;
  #asking = false;
  #refused = "";

  start() {
    this.watch = new Watch(this);
    followLinks((word) => word in PAGES || word === "admin");
    listenToKeys(() => this.#palette(), this.left);
    holdWrites(this.left);
    const signal = this.left;
    moves.addEventListener("moved", (event) => this.#show(/** @type {CustomEvent} */ (event).detail), { signal });
    connection.addEventListener("unauthorized", (event) => this.#unauthorized(/** @type {CustomEvent} */ (event)), {
      signal,
    });
    connection.addEventListener("back", () => caller() ?? this.#begin(), { signal });
    this.every(HEALTH_EVERY, () => this.watch?.look());
    this.live(["approval"], () => this.#count());
    this.#begin();
  }

  async #begin() {
    if (link) await signIn(link).catch((error) => (this.#refused = error.message));
    await Promise.all([this.watch?.look(), learn(this.left).catch((error) => (this.#wrong = error))]);
    this.#count();
    await this.#firstSteps();
    await this.#show();
  }

  /** An engine with no model but the demo begins with one, once in a tab. */
  async #firstSteps() {
    if (location.pathname !== "/" || sessionStorage.getItem(STARTED) || !may("models:write")) return;
    const models = await api.get("/models", {}, this.left).catch(() => null);
    /** @type {import("../api.ts").Model[]} */
    const found = models?.data ?? models ?? [];
    if (!models || found.some((one) => one.type !== "demo")) return;
    sessionStorage.setItem(STARTED, "yes");
    history.replaceState(null, "", "/start");
  }

  async #count() {
    if (!may("approvals")) return;
    const page = await api.get("/approvals", { limit: 1 }, this.left).catch(() => null);
    if (!page || page.total === this.#waiting) return;
    this.#waiting = page.total;
    this.update();
  }

  /** Draws what the address names. @param {boolean} [stays] whether the focus stays where it is */
  async #show(stays = false) {
    const where = place();
    const name = where.page in PAGES ? where.page : "inbox";
    const path = `/${[where.page, ...where.rest].join("/")}`;
    const [isNew, moved] = [name !== this.#name || !this.#page, path !== this.#path];
    if (moved) this.#remember();
    if (isNew) {
      try {
        const { default: Shown } = await PAGES[name].load();
        if (place().page !== where.page) return; // the reader has gone on
        if (!customElements.getName(Shown)) customElements.define(`bb-${name}`, Shown);
        this.#page = new Shown();
        this.#wrong = null;
      } catch (error) {
        this.#page = null;
        this.#wrong = /** @type {Error} */ (error);
      }
    }
    const first = !this.#path;
    [this.#name, this.#path] = [name, path];
    document.documentElement.dataset.page = name;
    if (this.#page) this.#page.place = where;
    if (!isNew) this.#page?.moved();
    this.update();
    if (moved && !first && !stays) this.#arrive();
  }

  /** What was read until now can be found again. */
  #remember() {
    const [, name, ...rest] = this.#path.split("/");
    if (rest.length && this.#page)
      remember({ url: `/${[name, ...rest.map(encodeURIComponent)].join("/")}`, words: this.#page.title, icon: name });
  }

  /** After navigation the focus is at the head of the page, as soon as that is there; unless the page takes it itself. */
  #arrive() {
    scrollTo(0, 0);
    if (this.watch?.notice === "restarted") this.watch.notice = "";
    const [path, before] = [this.#path, document.activeElement];
    const stop = new AbortController();
    const find = () => {
      const now = document.activeElement;
      const heading = /** @type {HTMLElement | null} */ (this.querySelector("main h1"));
      const gone = path !== this.#path || ![before, heading, document.body].includes(/** @type {any} */ (now));
      if (gone) stop.abort();
      else if (heading && now !== heading) heading.focus({ preventScroll: true });
    };
    const observer = new MutationObserver(find); // a page that has loaded may draw its head anew
    observer.observe(this, { childList: true, subtree: true });
    for (const signal of [stop.signal, AbortSignal.timeout(ARRIVAL)])
      signal.addEventListener("abort", () => observer.disconnect());
    queueMicrotask(find);
  }

  /** @param {CustomEvent<() => void>} event */
  #unauthorized({ detail }) {
    this.#signedIn = detail;
    this.#ask();
  }

  async #ask() {
    if (this.#asking) return;
    this.#asking = true;
    const done = await askToSignIn(this.#refused);
    this.#refused = "";
    this.#asking = false;
    this.update();
    if (!done) return;
    this.#signedIn?.();
    this.#signedIn = null;
    await learn(this.left).catch(() => null);
    say("Signed in");
    this.update();
    this.#page?.update();
  }

  async #signOut() {
    if (caller()?.kind === "user") await api.delete("/auth/local-session").catch(() => null);
    keep(null);
    sessionStorage.clear(); // what was read is not for whoever signs in next
    location.assign("/");
  }

  #palette() {
    palette({
      "Change the theme": () => this.#changeTheme(),
      "List the keys": help,
      "Sign out": () => this.#signOut(),
    });
  }

  #changeTheme() {
    changeTheme();
    this.update();
  }

  #known() {
    /** @type {Watch} */ (this.watch).notice = "";
    this.update();
  }

  /** @param {() => void} [close] of the menu that shows it */
  #nav(close = () => {}) {
    return {
      current: this.#name,
      waiting: this.#waiting,
      health: this.watch?.health ?? null,
      find: () => (close(), this.#palette()),
      menu: () => this.#menu(),
      changeTheme: () => (close(), this.#changeTheme()),
    };
  }

  #menu() {
    dialog(
      "Menu",
      (close) =>
        html`<nav
          class="rail"
          aria-label="Main"
          @click=${(/** @type {MouseEvent} */ event) =>
            /** @type {Element} */ (event.target).closest("a") ? close() : nothing}
        >
          ${rail(this.#nav(close))}
        </nav>`,
      { kind: "menu" },
    );
  }

  /** What is to be known above every page: that the engine is gone, or nobody is signed in. */
  #line() {
    const watch = /** @type {Watch} */ (this.watch);
    if (watch.lost) {
      const seen = clock(watch.seen.toISOString());
      return html`<div class="lost" role="status">
        The engine does not answer. What you see is from ${seen}. Trying again.
      </div>`;
    }
    if (this.#signedIn && !this.#asking)
      return html`<div class="lost">
        <span class="grow">You are signed out.${this.#page?.isConnected ? " What you see stays as it is." : ""}</span>
        <button class="btn" type="button" @click=${() => this.#ask()}>Sign in</button>
      </div>`;
    if (watch.notice === "updated")
      return html`<div class="lost" role="status">
        <span class="grow">The engine is ${watch.health?.version} now, and this page is of the version before.</span>
        <button class="btn" type="button" @click=${() => location.reload()}>Load again</button>
      </div>`;
    if (watch.notice)
      return html`<div class="lost" role="status">
        <span class="grow">The engine has restarted. Turns that ran go on.</span>
        <button class="btn plain" type="button" @click=${() => this.#known()}>Close</button>
      </div>`;
    return nothing;
  }

  #content() {
    const about = PAGES[this.#name];
    if (about?.scopes && !may(...about.scopes)) {
      const own = caller()?.scopes.join(", ") || "none";
      return html`${head(about.words)}
        <div class="note">
          This page needs the scope ${about.scopes.map((scope, n) => html`${n ? " or " : ""}<code>${scope}</code>`)}.
          Your token has ${own}.
          <button class="btn" type="button" @click=${() => this.#ask()}>Use another token</button>
        </div>`;
    }
    if (this.#wrong)
      return html`${head("This page could not be loaded")}
        <div class="note fail" role="alert">
          ${this.#wrong.message}
          <button class="btn" type="button" @click=${() => location.reload()}>Load again</button>
        </div>`;
    return this.#page ?? nothing;
  }

  draw() {
    const alone = this.#name === "start";
    const nav = this.#nav();
    return html`
      ${alone ? nothing : html`<nav class="rail" aria-label="Main">${rail(nav)}</nav>`}
      <main id="main" tabindex="-1">${this.#line()}${this.#content()}</main>
      ${alone ? nothing : html`<nav class="tabs" aria-label="Main, short">${tabs(nav)}</nav>`}
      <div class="sr" aria-live="polite" id="said"></div>
    `;
  }
}
customElements.define("bb-app", App);
