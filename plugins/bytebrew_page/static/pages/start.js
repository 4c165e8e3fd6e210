// First steps: a key, a model, whether it answers, an agent; one column, one decision at a time.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { live } from "../vendor/lit-html/directives/live.js";
import { ApiError, api } from "../core/api.js";
import { ms } from "../core/format.js";
import { Resource } from "../core/resource.js";
import { go, to } from "../core/router.js";
import { say } from "../core/say.js";
import { Page } from "../core/view.js";
import { checks, fault, verdict } from "../parts/checks.js";
import { code } from "../parts/code.js";
import { faults, field } from "../parts/field.js";
import { nameOf } from "./models/fields.js";
import { curl, freeName, ollamaAnswers, put, verify } from "./start/calls.js";
import { choose } from "./start/choose.js";
import { addressField, forward, keyField, line, nameField, refusal, vendorField } from "./start/fields.js";
import { forget, keep, recall } from "./start/progress.js";
import { ADDRESSES, ordered, takesKey, vendorOf } from "./start/vendors.js";

/** @typedef {import("../../api.ts").CatalogModel} CatalogModel */
/** @typedef {import("../../api.ts").CatalogProvider} CatalogProvider */
/** @typedef {import("../../api.ts").Verification} Verification */
/** @typedef {import("./start/progress.js").Progress} Progress */

const TOOLS = [
  ["current_time", "tells the time"],
  ["show_structured_output", "shows tables and forms"],
];
const PATHS = ["name", "type", "model_name", "base_url", "api_key", "system", "tools", "entry_agent"].map(
  (n) => `$.${n}`,
);
/** How long success stays before the next step, in milliseconds. */
const PAUSE = 600;

export default class Start extends Page {
  #progress = recall();
  #key = "";
  #local = false;
  #busy = false;
  /** @type {ApiError | null} */
  #error = null;
  /** @type {Verification | null} */
  #verification = null;
  #verifying = "";
  /** @type {Set<string>} */
  #tools = new Set(TOOLS.map(([name]) => name));
  /** @type {Resource<[CatalogProvider[], CatalogModel[], string[]]>} */
  #known = new Resource(this, async (signal) => {
    const [vendors, models, tools] = await Promise.all([
      api.get("/models/registry/providers", {}, signal),
      api.get("/models/registry", {}, signal),
      api.get("/tools/metadata", {}, signal).catch(() => []),
    ]);
    return [vendors, models, tools.map((/** @type {{ name: string }} */ one) => one.name)];
  });

  get title() {
    return "First steps";
  }

  start() {
    this.#known.reload().then(() => this.moved());
    ollamaAnswers().then((local) => {
      this.#local = local;
      if (local && !this.#progress.vendor && !this.#key) this.#set({ vendor: "ollama" });
      this.update();
    });
  }

  /** The step that is open; one that needs what is not there yet is not. */
  get #step() {
    const wanted = Math.min(4, Math.max(1, Number(this.query("step")) || 1));
    if (this.#progress.model) return wanted;
    return this.#progress.vendor && this.#ready ? Math.min(wanted, 2) : 1;
  }

  /** Whether the first step has what the vendor needs. */
  get #ready() {
    const vendor = this.#vendor;
    if (!vendor) return false;
    const own = vendor.id === "openai_compatible" && this.#progress.address !== ""; // it may take no key
    return own || !takesKey(vendor) || this.#key !== "";
  }

  get #vendor() {
    const [vendors] = this.#known.value ?? [[]];
    const shown = ordered(vendors, this.#local);
    return shown.find((one) => one.id === this.#progress.vendor) ?? shown[0];
  }

  moved() {
    if (this.#known.value && this.#step === 2 && !this.#progress.model_name) this.#chooseFirst();
    if (this.#known.value && this.#step === 3 && this.#verifying !== this.#progress.model) this.#verify();
    this.update();
  }

  /** The best model of the vendor that calls tools. */
  #chooseFirst() {
    const known = (this.#known.value?.[1] ?? []).filter((one) => one.provider === this.#vendor?.id);
    const first = known.find((one) => one.supports_tools) ?? known[0];
    if (first) this.#set({ model_name: first.id });
  }

  /** @param {Partial<Progress>} change */
  #set(change) {
    this.#progress = { ...this.#progress, ...change };
    keep(this.#progress);
    this.update();
  }

  /** Runs one thing at a time; whether it went well. @param {() => Promise<void>} run @returns {Promise<boolean>} */
  async #act(run) {
    if (this.#busy) return false;
    this.#busy = true;
    this.#error = null;
    this.update();
    try {
      await run();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#error = error;
    } finally {
      this.#busy = false;
      this.update();
    }
    if (this.#error)
      queueMicrotask(() => /** @type {HTMLElement | null} */ (this.querySelector("[aria-invalid=true]"))?.focus());
    return !this.#error;
  }

  async #saveModel() {
    const saved = await this.#act(async () => {
      const { vendor, address, model_name, model } = this.#progress;
      const known = this.#known.value?.[1].find((one) => one.id === model_name);
      const name = model || (await freeName(nameOf(model_name) || "model"));
      this.#set({ model: name, vendor: this.#vendor?.id ?? vendor, tools: known?.supports_tools ?? true });
      const body = { type: this.#progress.vendor, model_name, base_url: address, api_key: this.#key, is_default: true };
      try {
        await put("/models", name, body, true);
      } catch (error) {
        if (!model) this.#set({ model: "" });
        throw error;
      }
    });
    this.#verifying = "";
    if (saved && this.#step === 3) this.#verify();
    else if (saved) this.#goTo(3);
  }

  async #verify() {
    const name = (this.#verifying = this.#progress.model);
    this.#verification = null;
    await this.#act(async () => {
      const found = await verify(name);
      if (name !== this.#progress.model) return;
      this.#verification = found;
      this.#set({ tools: found.tool_calling === "supported" });
      if (fault(found)) return say("The model cannot be used yet");
      say("The model answers");
      setTimeout(() => this.isConnected && this.#step === 3 && this.#goTo(4), PAUSE);
    });
  }

  #make() {
    return this.#act(async () => {
      const { agent, schema, prompt, model, made } = this.#progress;
      const [, , there] = this.#known.value ?? [[], [], []];
      const tools = TOOLS.map(([name]) => name).filter((name) => this.#tools.has(name) && there.includes(name));
      const how = { model, system: prompt, tools: this.#progress.tools ? tools : [] };
      await put("/agents", agent, how, made.includes(`agent ${agent}`));
      this.#set({ made: [...this.#progress.made, `agent ${agent}`] });
      await put("/schemas", schema, { entry_agent: agent, chat_enabled: true }, made.includes(`schema ${schema}`));
      forget();
      this.#key = "";
      go(to`/chat?schema=${schema}`);
    });
  }

  /** @param {number} step */
  #goTo(step) {
    go(`/start?step=${step}`);
    queueMicrotask(() => /** @type {HTMLElement | null} */ (this.querySelector(".step.now h2"))?.focus());
  }

  draw() {
    return html`<div class="start">
      <p class="row top"><b class="grow">ByteBrew</b><a href="/">Skip to the page</a></p>
      <h1 tabindex="-1">Your engine runs</h1>
      <p class="lead">
        Four steps to an agent that answers, about two minutes. Or
        <a href="/chat?schema=demo">talk to the demo model</a>, which needs no key and no network.
      </p>
      ${this.#known.shown(() => this.#steps())}
      <p class="meta after">
        Have a configuration file? <a href="/config?tab=import">Import it</a>. Prefer a terminal? The same calls as
        <a href=${`/start?step=${this.#step}${this.query("curl") ? "" : "&curl=1"}`}>curl</a>.
      </p>
      ${this.query("curl") ? code("The same with curl", curl(this.#progress), curl(this.#progress)) : ""}
    </div>`;
  }

  #steps() {
    const { model_name, model } = this.#progress;
    const verified = this.#verification && !fault(this.#verification);
    const says = verified
      ? `${ms(this.#verification?.response_time_ms)}${this.#progress.tools ? ", calls tools" : ""}`
      : "";
    return html`<ol>
      ${this.#one(1, "A key", this.#vendor?.display_name ?? "", () => this.#keyStep())}
      ${this.#one(2, "A model", model ? model_name : "", () => this.#modelStep())}
      ${this.#one(3, "Does it answer?", says, () => this.#verifyStep())}
      ${this.#one(4, "An agent", "", () => this.#agentStep())}
    </ol>`;
  }

  /** @param {number} n @param {string} title @param {string} done @param {() => unknown} draw */
  #one(n, title, done, draw) {
    const at = this.#step;
    const when = n < at ? "done" : n === at ? "now" : "ahead";
    return html`<li class="step ${when}" aria-current=${n === at ? "step" : nothing}>
      <span class="n" aria-hidden="true">${n < at ? "✓" : n}</span>
      <div class="in">
        <div class="row">
          <h2 class="grow" tabindex="-1">${title}<span class="sr">${n < at ? ", done" : ""}</span></h2>
          ${
            n < at
              ? html`<span class="dim clip">${done}</span>
                  <a href=${`/start?step=${n}`} aria-label="Change: ${title}">Change</a>`
              : ""
          }
        </div>
        ${n === at ? draw() : ""}
      </div>
    </li>`;
  }

  /** @param {() => void} run */
  #submit = (run) => (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    run();
  };

  /** @param {Record<string, string>} wrong */
  #keyField(wrong) {
    return keyField(this.#vendor, this.#key, wrong, (key) => {
      this.#key = key;
      const found = vendorOf(key);
      if (found && found !== this.#vendor?.id) this.#set({ vendor: found, model_name: "", address: "" });
      this.update();
    });
  }

  /** @param {Record<string, string>} wrong */
  #addressField(wrong) {
    return addressField(this.#vendor, this.#progress.address, wrong, (address) => this.#set({ address }));
  }

  /** @param {Record<string, string>} wrong */
  #nameField(wrong) {
    return nameField(this.#vendor, this.#progress.model_name, wrong, (model_name) => this.#set({ model_name }));
  }

  #keyStep() {
    const [vendors] = this.#known.value ?? [[]];
    const vendor = this.#vendor;
    const needsKey = vendor && takesKey(vendor);
    const found = vendor?.id === "ollama" && this.#local ? "It answers on the engine's machine" : "It needs no key";
    return html`<form class="stack" @submit=${this.#submit(() => this.#goTo(2))}>
      ${vendorField(vendors, vendor, this.#local, (id) => this.#set({ vendor: id, model_name: "", address: "" }))}
      ${needsKey ? this.#keyField({}) : ""} ${vendor && vendor.id in ADDRESSES ? this.#addressField({}) : ""}
      ${forward("Go on", needsKey ? "The vendor is recognised by the key's beginning" : found, !this.#ready)}
    </form>`;
  }

  #modelStep() {
    const wrong = faults(this.#error, PATHS);
    const known = (this.#known.value?.[1] ?? []).filter((one) => one.provider === this.#vendor?.id);
    const chosen = this.#progress.model_name;
    return html`<form class="stack" novalidate @submit=${this.#submit(() => this.#saveModel())}>
      ${refusal(wrong)}
      ${
        known.length
          ? choose(known, chosen, this.query("all") === "1", (model_name) => this.#set({ model_name }))
          : this.#nameField(wrong)
      }
      ${wrong["$.api_key"] ? this.#keyField(wrong) : ""} ${wrong["$.base_url"] ? this.#addressField(wrong) : ""}
      ${forward("Save and verify", known.length ? "dollars for a million tokens in / out" : "", this.#busy || !chosen)}
    </form>`;
  }

  #verifyStep() {
    const found = this.#verification;
    const failed = fault(found);
    const wrong = faults(this.#error, PATHS);
    if (!failed)
      return html`${this.#error ? refusal(wrong) : checks(found)}
        <div class="row wrap">
          <button class="btn first" type="button" ?disabled=${!found} @click=${() => this.#goTo(4)}>Go on</button>
          <span class="meta">Goes on by itself when all is well</span>
          <a href="/start?step=4">Go on without waiting</a>
        </div>`;
    return html`${checks(found)} ${found ? verdict(found) : ""}
      <form class="stack" @submit=${this.#submit(() => this.#saveModel())}>
        ${refusal(wrong)} ${failed.name === "key" ? this.#keyField(wrong) : ""}
        ${failed.name === "reached" ? this.#addressField(wrong) : ""}
        ${failed.name === "answers" || failed.name === "tool_call" ? this.#nameField(wrong) : ""}
        <div class="row wrap">
          <button class="btn first" type="submit" ?disabled=${this.#busy}>Save and verify</button>
          <a href="/start?step=4">${failed.name === "tool_call" ? "Go on without tools" : "Go on all the same"}</a>
        </div>
      </form>`;
  }

  #agentStep() {
    const { agent, schema, prompt, tools } = this.#progress;
    const wrong = faults(this.#error, PATHS);
    const there = this.#known.value?.[2] ?? [];
    const offered = TOOLS.filter(([name]) => there.includes(name));
    const ofSchema = this.#progress.made.includes(`agent ${agent}`); // else the agent itself was refused
    return html`<form class="stack" novalidate @submit=${this.#submit(() => this.#make())}>
      ${refusal(wrong)}
      <div class="grid2">
        ${line("Name", "$.name", agent, (text) => this.#set({ agent: text }), {
          hint: "lower case, digits, dashes",
          error: ofSchema ? "" : wrong["$.name"],
        })}
        ${line("Talk to it as", "$.schema", schema, (text) => this.#set({ schema: text }), {
          hint: html`the schema: <code>POST /api/v1/schemas/${schema}/chat</code>`,
          error: ofSchema ? wrong["$.name"] : "",
        })}
      </div>
      ${field(
        "What it is told",
        "$.system",
        { error: wrong["$.system"] },
        (id) =>
          html`<textarea
            id=${id}
            rows="3"
            .value=${live(prompt)}
            @input=${(/** @type {any} */ event) => this.#set({ prompt: event.target.value })}
          ></textarea>`,
      )}
      ${tools && offered.length ? this.#toolsField(offered) : ""}
      ${forward("Make it and talk", "", this.#busy || !agent || !schema)}
    </form>`;
  }

  /** @param {string[][]} offered */
  #toolsField(offered) {
    return html`<fieldset class="bare">
      <legend>Tools to begin with</legend>
      ${offered.map(
        ([name, words]) =>
          html`<label class="row wrap">
            <input
              type="checkbox"
              .checked=${live(this.#tools.has(name))}
              @change=${() => (this.#tools.delete(name) || this.#tools.add(name), this.update())}
            />
            <b class="mono">${name}</b><span class="meta">${words}</span>
          </label>`,
      )}
    </fieldset>`;
  }
}
