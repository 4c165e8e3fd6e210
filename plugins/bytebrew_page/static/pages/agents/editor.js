// The editor of an agent, in which every change is a version.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { ApiError } from "../../core/api.js";
import { may } from "../../core/caller.js";
import { clock } from "../../core/format.js";
import { Resource } from "../../core/resource.js";
import { api } from "../../core/api.js";
import { go, moves, to } from "../../core/router.js";
import { say } from "../../core/say.js";
import { shown } from "../../core/text.js";
import { View } from "../../core/view.js";
import { sure } from "../../parts/dialog.js";
import { head } from "../../parts/head.js";
import { state } from "../../parts/state.js";
import { toast } from "../../parts/toast.js";
import "./capabilities.js";
import { Form, wordsOf } from "./form.js";
import { copyAs, meanwhile, saveBar, usersOf } from "./around.js";
import { advanced, agentPage, limits, names, part, prompt } from "./parts.js";
import * as store from "./store.js";
import { otherGates, toolsTable, ToolsView } from "./tools.js";
import { compared, comparison, DRAFT, sides, sidesChoice, versions } from "./versions.js";

class Agent extends View {
  name = "";
  #compare = "";
  /** @type {Form | null} */
  #form = null;
  #tools = new ToolsView();
  #busy = false;
  #toFault = false;
  /** What others have saved since the form was loaded. @type {store.Base | null} */
  #theirs = null;
  /** @type {ApiError | null} */
  #undeletable = null;
  #most = 50;

  /** @type {Resource<store.Base>} */
  #base = new Resource(this, async (signal) => {
    const base = await store.load(this.name, signal);
    this.#takeIn(base);
    return base;
  });
  /** @type {Resource<import("../../../api.ts").VersionPage>} */
  #versions = new Resource(this, (signal) =>
    api.get(to`/agents/${this.name}/versions`, { limit: Math.min(this.#most, 200) }, signal),
  );
  #around = new Resource(this, store.surroundings);
  /** @type {Resource<import("./versions.js").Side[]>} */
  #sides = new Resource(this, (signal) => this.#loadSides(signal));

  /** The versions to compare, such as `v13..v14`. @param {string} text */
  set compare(text) {
    if (text === this.#compare) return;
    this.#compare = text;
    if (this.isConnected) this.#sides.reload();
    this.update();
  }

  start() {
    this.#base.reload();
    this.#versions.reload();
    this.#around.reload();
    if (this.#compare) this.#sides.reload();
    this.live(["config"], () => this.#look());
    const signal = this.left;
    moves.addEventListener("leaving", (event) => this.#leave(/** @type {CustomEvent} */ (event)), { signal });
    addEventListener("beforeunload", (event) => this.#form?.changed.length && event.preventDefault(), { signal });
  }

  /** @param {store.Base} base */
  #takeIn(base) {
    this.#form = new Form(this.name, base.content, may("agents:write"), () => this.update());
    this.#theirs = null;
  }

  /** Looks whether somebody has saved a version; a form without changes shows it at once. */
  async #look() {
    if (this.#busy || !this.#base.value) return;
    const { n } = await store.newest(this.name, this.left).catch(() => ({ n: 0 }));
    if (!n || n === this.#base.value?.n || n === this.#theirs?.n) return;
    if (this.#form?.changed.length) this.#theirs = await store.load(this.name, this.left);
    else await this.#base.reload();
    await this.#versions.reload();
    this.update();
  }

  /** @param {CustomEvent<string>} event */
  async #leave(event) {
    const count = this.#form?.changed.length;
    if (!count || new URL(event.detail, location.href).pathname === to`/agents/${this.name}`) return;
    event.preventDefault();
    const act = count === 1 ? "Discard 1 change" : `Discard ${count} changes`;
    if (!(await sure(act, html`<p>What you have changed in ${shown(this.name)} is not saved.</p>`))) return;
    this.#form?.discard();
    go(event.detail);
  }

  /** @param {AbortSignal} signal */
  async #loadSides(signal) {
    const chosen = sides(this.#compare);
    if (!chosen) return [];
    const numbers = [chosen.before, chosen.after].filter((one) => one !== DRAFT);
    const found = await Promise.all(numbers.map((n) => store.version(this.name, Number(n), signal)));
    return found.map(({ number, moment, actor, content }) => ({
      title: `v${number}`,
      note: `${clock(moment)}, ${actor}`,
      content: content ?? {},
    }));
  }

  async #save() {
    const [form, base] = [this.#form, this.#base.value];
    if (!form || !base) return;
    await this.#act(async () => {
      form.error = null;
      const changes = form.draft;
      const n = await store.save(this.name, changes, base.n);
      form.discard();
      if (this.#compare) go(to`/agents/${this.name}`, { replace: true });
      await this.#base.reload();
      say(`Saved as v${n}`);
      toast(`Saved as v${n}`, () => this.#roll(base.n));
    });
  }

  /** @param {number} n */
  async #roll(n) {
    const before = this.#base.value?.n ?? 0;
    await this.#act(async () => {
      const made = await store.rollBack(this.name, n);
      if (this.#compare) go(to`/agents/${this.name}`, { replace: true });
      await this.#base.reload();
      const rest = made.differs.length ? `, but for ${made.differs.map(wordsOf).join(", ")}` : "";
      const words = `v${made.number} has the content of v${n}${rest}`;
      say(words);
      toast(words, before && before !== made.number ? () => this.#roll(before) : undefined);
    });
  }

  async #remove() {
    const act = `Delete agent ${this.name}`;
    const words = html`<p>Its versions are kept: a rollback brings it back. Its sessions stay readable.</p>`;
    if (!(await sure(act, words))) return;
    await this.#act(async () => {
      await store.remove(this.name, this.#base.value?.n ?? 0);
      this.#form?.discard();
      toast(`Deleted ${this.name}`);
      go("/agents");
    });
  }

  /** Runs what changes the agent, and shows what refuses it. @param {() => Promise<void>} run */
  async #act(run) {
    this.#busy = true;
    this.#undeletable = null;
    this.update();
    try {
      await run();
    } catch (caught) {
      const error = caught instanceof ApiError ? caught : new ApiError(0, { message: String(caught) });
      if (error.status === 412) this.#theirs = await store.load(this.name, this.left);
      else if (error.status === 409) this.#undeletable = error;
      else if (this.#form) this.#form.error = error;
      this.#toFault = true;
    }
    this.#busy = false;
    await this.#versions.reload();
    this.update();
  }

  /** Puts the draft on top of what others have saved. */
  #rebase() {
    if (!this.#theirs) return;
    this.#base.value = this.#theirs;
    this.#takeIn(this.#theirs);
    go(comparison(this.name, this.#base.value.n, DRAFT), { replace: true });
    this.update();
  }

  drawn() {
    if (!this.#toFault) return;
    this.#toFault = false;
    const first = this.querySelector("[aria-invalid=true]") ?? this.querySelector("[role=alert]");
    /** @type {HTMLElement | null} */ (first)?.focus();
  }

  draw() {
    const crumb = html`<a href="/agents">Agents</a> /`;
    if (this.#base.value === undefined)
      return html`${head(shown(this.name), { crumb })}${this.#base.shown(() => "")}${this.#gone()}`;
    return this.#base.shown((base) => (this.#form ? this.#editor(base, this.#form, crumb) : nothing));
  }

  /** An agent that was deleted has its versions still. */
  #gone() {
    const last = this.#versions.value?.data.find((one) => one.action !== "delete");
    if (!this.#base.error || !last || !may("agents:write")) return "";
    return html`<div class="notes">
      <p>It was deleted. Its versions are kept.</p>
      <button class="btn" type="button" ?disabled=${this.#busy} @click=${() => this.#roll(last.number)}>
        Bring it back as v${last.number} was
      </button>
    </div>`;
  }

  /** @param {store.Base} base @param {Form} form @param {unknown} crumb */
  #editor(base, form, crumb) {
    const [around, page] = [this.#around.value, this.#versions.value];
    const owner = base.detail.managed_by;
    const schema = around?.schemas?.find((/** @type {any} */ one) => one.entry_agent === this.name && one.chat_enabled);
    const acts = html`
      ${schema ? html`<a class="btn" href=${`/chat?schema=${encodeURIComponent(schema.name)}`}>Try in chat</a>` : ""}
      <button class="btn" type="button" @click=${() => copyAs(this.name, form.content)}>Copy as…</button>
      ${
        form.writable
          ? html`<button class="btn plain" type="button" ?disabled=${this.#busy} @click=${() => this.#remove()}>
              Delete
            </button>`
          : ""
      }
    `;
    return html`
      ${head(shown(this.name), { crumb, acts })}
      <div class="notes">
        ${
          owner
            ? html`<div class="note">
                From ${shown(owner.file)}, line ${owner.line}. You may change it here; the next start and each reload of
                that file set it again.
              </div>`
            : ""
        }
        ${form.writable ? "" : html`<div class="note">Your token may read agents. To change one it needs the scope agents:write.</div>`}
        ${usersOf(this.#undeletable)}
        ${
          this.#theirs
            ? meanwhile(this.name, base, this.#theirs, form, {
                rebase: () => this.#rebase(),
                discard: () => this.#discard(),
              })
            : ""
        }
        ${
          form.faults[""] ? html`<div class="note fail" role="alert" tabindex="-1">${shown(form.faults[""])}</div>` : ""
        }
        ${base.detail.warnings.map((words) => html`<p>${state("alert", shown(words))}</p>`)}
      </div>
      <div class="edit">
        <fieldset class="form" ?disabled=${!form.writable}>
          <legend class="sr">Agent ${this.name}</legend>
          ${this.#prompt(base, form)} ${this.#parts(base, form, around)}
        </fieldset>
        ${
          page
            ? versions(this.name, page, {
                n: base.n,
                draft: form.changed,
                seen: sides(this.#compare),
                roll: form.writable ? (n) => this.#roll(n) : null,
                more: () => ((this.#most += 50), this.#versions.reload()),
              })
            : ""
        }
      </div>
      ${
        form.changed.length
          ? saveBar(this.name, form, base.n, {
              busy: this.#busy,
              stale: this.#theirs !== null,
              save: () => this.#save(),
              discard: () => this.#discard(),
            })
          : ""
      }
    `;
  }

  #discard() {
    this.#form?.discard();
    if (this.#theirs) this.#base.reload();
    if (this.#compare) go(to`/agents/${this.name}`, { replace: true });
  }

  /** @param {store.Base} base @param {Form} form */
  #prompt(base, form) {
    const chosen = sides(this.#compare);
    const other = form.changed.length
      ? comparison(this.name, base.n, DRAFT)
      : comparison(this.name, base.n - 1, base.n);
    const known = this.#versions.value?.data ?? [];
    const view = html`<div class="seg" role="group" aria-label="View">
      <a href=${to`/agents/${this.name}`} aria-current=${chosen ? nothing : "true"}>Write</a>
      <a href=${chosen ? location.pathname + location.search : other} aria-current=${chosen ? "true" : nothing}
        >Compare</a
      >
    </div>`;
    const acts = chosen || base.n > 1 || form.changed.length ? view : "";
    if (!chosen) return part("Prompt", "What it is told before every conversation.", prompt(form), acts);
    const draft = { title: "Draft", note: "not saved", content: form.content };
    return part(
      "Prompt",
      "What changed from one version to the other.",
      html`${sidesChoice(this.name, known, chosen, form.changed.length > 0)}
      ${this.#sides.shown(([one, two]) => (one ? compared(one, chosen.after === DRAFT ? draft : two) : ""))}
      ${
        form.writable && chosen.after !== DRAFT && chosen.before !== base.n
          ? html`<div class="row wrap">
              <button class="btn" type="button" ?disabled=${this.#busy} @click=${() => this.#roll(chosen.before)}>
                Roll back to v${chosen.before}
              </button>
              <span class="meta">
                Makes v${base.n + 1} with the content of v${chosen.before}. Turns that run keep v${base.n}.
              </span>
            </div>`
          : ""
      }`,
      acts,
    );
  }

  /** @param {store.Base} base @param {Form} form @param {Awaited<ReturnType<typeof store.surroundings>> | undefined} around */
  #parts(base, form, around) {
    if (!around) return "";
    const others = (around.agents ?? []).filter((/** @type {any} */ one) => one.name !== this.name);
    const known = (/** @type {any[]} */ all) =>
      all.map((one) => ({ name: one.name, words: shown(one.description ?? one.url ?? "") }));
    const tools = around.tools ?? [];
    return html`
      ${part("Model and limits", "", limits(form, around.models))}
      ${part(
        "Tools",
        "“Ask first” puts the call into the inbox until a person has answered.",
        html`${toolsTable(form, tools, this.#tools, () => this.update())} ${otherGates(form, tools)}`,
      )}
      ${part(
        "May ask",
        "Agents that it can hand work to, each as a tool.",
        names(form, "can_spawn", known(others), {
          none: "There is no other agent yet.",
          page: agentPage,
          gate: (name) => `spawn_${name}`,
        }),
      )}
      ${
        around.servers
          ? part(
              "MCP servers",
              "It gets the tools of these servers.",
              names(form, "mcp_servers", known(around.servers), {
                none: html`There is no MCP server yet. <a href="/tools">Tools</a> adds one.`,
                page: () => "/tools",
              }),
            )
          : ""
      }
      ${part(
        "Knowledge and memory",
        "These switch at once, each as a version of its own.",
        html`<bb-capabilities
          .agent=${this.name}
          .writable=${form.writable}
          .all=${base.detail.capabilities ?? []}
          .changed=${(/** @type {string} */ words) => this.#switched(words)}
        ></bb-capabilities>`,
      )}
      ${part("Advanced", "", advanced(form, around.models))}
    `;
  }

  /** @param {string} words */
  async #switched(words) {
    await Promise.all([this.#base.reload(), this.#versions.reload()]);
    say(words);
  }
}
customElements.define("bb-agent", Agent);
