// The element: a button, and the conversation that it opens.
const PAST = 1000; // how long what was said before may take to come
const LAST = new Set(["done", "error"]);
const SENTENCE = /[^.!?\n]*[.!?\n]+(?=\s|$)/g;

const script = /** @type {HTMLScriptElement | null} */ (
  document.currentScript ?? document.querySelector('script[src$="/widget.js"]')
);
const home = script ? new URL(script.src).origin : location.origin;

class Chat extends HTMLElement {
  #root = this.attachShadow({ mode: "closed" });
  #talk = new Talk("", "", "");
  #begun = false; // whether earlier visits are drawn
  #busy = false; // whether events are read
  /** The visitor's messages whose answers are still to come, the first one's now. @type {string[]} */
  #asked = [];
  #turn = false; // whether the first of them is drawn
  #text = ""; // what the answer says so far
  #heard = 0; // how much of it was said to a reader of the screen
  #quiet = false; // whether what comes was said before
  #due = 0;
  /** @type {HTMLElement | null} */
  #answer = null;
  /** @type {HTMLElement | null} */
  #note = null;
  /** @type {HTMLElement | null} */
  #form = null;
  #list = make("ol", { role: "log", "aria-live": "off", "aria-label": "Conversation", tabindex: "0" });
  #status = make("p", { class: "status", id: "status", role: "status" });
  #voice = make("div", { class: "sr", "aria-live": "polite" });
  #field = /** @type {HTMLTextAreaElement} */ (
    make("textarea", {
      "aria-label": "Message",
      "aria-describedby": "status",
      placeholder: "Write a message",
      rows: "1",
    })
  );
  #button = /** @type {HTMLButtonElement} */ (make("button", { class: "send", type: "submit" }, "Send"));
  #open = make("button", { class: "open", type: "button", "aria-haspopup": "dialog", onclick: () => this.show() });
  #box = /** @type {HTMLDialogElement} */ (make("dialog", {}));

  connectedCallback() {
    if (!this.#root.childNodes.length) this.#build();
    this.#renew();
    this.#arrive();
  }

  disconnectedCallback() {
    this.#talk.end();
  }

  /** Begins anew, with nothing drawn. */
  #renew() {
    const [engine, schema, token] = ["engine", "schema", "token"].map((name) => this.getAttribute(name) ?? "");
    this.#talk.end();
    this.#talk = new Talk(engine || home, schema, token);
    this.#asked = [];
    this.#turn = this.#begun = this.#busy = false;
    this.#settle();
    this.#list.replaceChildren();
    const greeting = this.getAttribute("greeting");
    if (greeting) this.#row("text", ...marked(greeting));
  }

  #build() {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    this.#root.adoptedStyleSheets = [sheet];
    const label = this.getAttribute("label") ?? "Ask us";
    this.#open.textContent = label;
    this.#box.setAttribute("aria-label", label);
    this.#box.addEventListener("keydown", (event) => event.key === "Escape" && this.hide());
    this.#field.addEventListener("input", () => this.#talk.changed());
    this.#field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#submit();
    });
    const forget = () => {
      menu.removeAttribute("open");
      this.#forget();
    };
    const menu = make(
      "details",
      {},
      make("summary", { "aria-label": "More" }, "⋯"),
      make("button", { type: "button", onclick: forget }, "Forget this conversation"),
    );
    const close = make("button", { type: "button", "aria-label": "Close", onclick: () => this.hide() }, "✕");
    const say = make("form", { class: "say" }, this.#field, this.#button);
    say.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#box.append(
      make("header", {}, make("h2", {}, label), menu, close),
      this.#list,
      this.#status,
      say,
      this.#voice,
    );
    this.#open.hidden = true;
    this.#root.append(this.#open, this.#box);
  }

  /** Shows the button once it is known that the engine answers this site's pages. */
  async #arrive() {
    const { token, open } = this.#talk.memory.kept;
    if (!token && !(await this.#talk.answers())) return;
    this.#open.hidden = false;
    if (open || this.hasAttribute("open")) this.show({ focus: false });
  }

  /** Opens the conversation. @param {{ focus?: boolean }} [how] */
  show({ focus = true } = {}) {
    this.#open.hidden = true;
    const before = document.activeElement;
    this.#box.show();
    if (focus) this.#field.focus();
    else if (before instanceof HTMLElement && before !== document.body) before.focus();
    else /** @type {HTMLElement | null} */ (this.#root.activeElement)?.blur();
    this.#remember();
    this.#begin();
  }

  /** Closes the conversation, and gives the focus back. */
  hide() {
    this.#box.close();
    this.#open.hidden = false;
    this.#open.focus();
    this.#remember();
  }

  /** A visitor who has said something finds the conversation as it was, open or closed. */
  #remember() {
    if (this.#talk.session) this.#talk.memory.keep({ open: this.#box.open });
  }

  /** Draws what was said on earlier visits, once. */
  async #begin() {
    if (this.#begun || !this.#talk.session) return;
    this.#begun = true;
    try {
      this.#asked = await this.#talk.said();
      this.#quiet = true;
      setTimeout(() => (this.#quiet = false), PAST);
      this.#follow();
    } catch (error) {
      this.#begun = false;
      this.#fail(error);
    }
  }

  #submit() {
    const text = this.#field.value.trim();
    if (text) this.#say(text, text, () => (this.#field.value = ""));
  }

  /**
   * Says something; what could not be sent stays where it is.
   * @param {any} message as the engine takes it
   * @param {string} words as the visitor sees it
   * @param {() => void} sent
   */
  async #say(message, words, sent) {
    if (this.#button.disabled) return;
    this.#button.disabled = true;
    this.#tell("");
    try {
      const response = await this.#talk.say(message);
      this.#begun = true;
      this.#remember();
      sent();
      this.#asked.push(words);
      this.#quiet = false;
      if (this.#busy)
        response.body?.cancel(); // what is read already goes on to this turn
      else this.#follow(response);
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#button.disabled = false;
    }
  }

  /** @param {unknown} error */
  #fail(error) {
    if (this.#talk.ended) return;
    if (!(error instanceof Refused))
      return this.#tell("There is no connection. What you wrote is still here; send it again.");
    if (error.status === 404 && this.#talk.session) {
      this.#talk.memory.keep({ session: undefined });
      return this.#tell("This conversation has ended. Send your message again to begin another one.");
    }
    this.#tell(error.message);
    if (error.status < 404) console.error(`bytebrew-chat: ${error.message}`);
  }

  /** @param {string} words */
  #tell(words) {
    this.#status.textContent = words;
  }

  /** Reads events until every message has its answer. @param {Response} [response] */
  async #follow(response) {
    if (this.#busy) return;
    const talk = this.#talk;
    this.#busy = true;
    this.#next();
    try {
      for await (const event of talk.events(response, () => this.#tell("Connecting again"))) {
        if (talk !== this.#talk) return;
        this.#tell("");
        this.#event(event.name, event.data);
        if (!this.#asked.length) break;
      }
    } catch (error) {
      this.#asked = [];
      this.#fail(error);
    }
    if (talk === this.#talk) this.#busy = false;
  }

  /** Draws the message whose answer comes next. */
  #next() {
    if (this.#turn || !this.#asked.length) return;
    this.#turn = true;
    this.#form?.setAttribute("disabled", "");
    this.#form = null;
    this.#row("text me", this.#asked[0]);
    this.#wait("One moment");
  }

  /** @param {string} name @param {any} data */
  #event(name, data) {
    this.#next();
    if (name === "message_delta") this.#write(this.#text + data.content);
    else if (name === "message_restart" || name === "message") this.#write(data.content);
    else if (name === "tool_call") this.#wait("Looking something up…");
    else if (name === "confirmation") this.#wait("A colleague is looking at this.");
    else if (name === "structured_output") this.#block(data);
    if (!LAST.has(name)) return;
    this.#hear(true);
    this.#settle();
    if (name === "error") this.#row("note", data.message);
    this.#asked.shift();
    this.#turn = false;
    this.#next();
  }

  /** Whatever comes next stands by itself. */
  #settle() {
    this.#note?.remove();
    this.#note = null;
    this.#answer = null;
    this.#text = "";
    this.#heard = 0;
  }

  /** @param {string} words what the visitor waits for */
  #wait(words) {
    this.#hear(true);
    this.#settle();
    this.#note = this.#row("note", words);
    if (!this.#quiet) this.#voice.textContent = words;
  }

  /** @param {string} text */
  #write(text) {
    this.#note?.remove();
    this.#note = null;
    this.#text = text;
    this.#answer ??= this.#row("text", "");
    if (this.#due) return;
    this.#due = requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    cancelAnimationFrame(this.#due);
    this.#due = 0;
    this.#atEnd(() => this.#answer?.replaceChildren(...marked(this.#text)));
    this.#hear(false);
  }

  /** Says finished sentences, and at the end the rest. @param {boolean} whole */
  #hear(whole) {
    if (this.#due && whole) this.#paint();
    const rest = this.#text.slice(this.#heard);
    const length = whole ? rest.length : (rest.match(SENTENCE)?.join("").length ?? 0);
    if (!length) return;
    this.#heard += length;
    if (!this.#quiet) this.#voice.textContent = rest.slice(0, length).replace(/[*`]/g, "");
  }

  /** @param {string} kind @param {...(Node | string)} inner */
  #row(kind, ...inner) {
    const row = make("li", { class: kind, dir: "auto" }, ...inner);
    this.#atEnd(() => this.#list.append(row));
    return row;
  }

  /** Changes the list, which stays at its end if it was there. @param {() => void} change */
  #atEnd(change) {
    const list = this.#list;
    const was = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
    change();
    if (was) list.scrollTop = list.scrollHeight;
  }

  /** A table, a note or a form. @param {any} data */
  #block(data) {
    this.#hear(true);
    this.#settle();
    const parts = [];
    if (data.title) parts.push(make("b", {}, data.title));
    if (data.description) parts.push(make("p", { class: "text" }, ...marked(data.description)));
    if (data.rows?.length) parts.push(table(data.title, data.rows));
    if (data.questions?.length) parts.push(this.#questions(data.questions));
    if (data.actions?.length) parts.push(this.#actions(data.actions));
    const inner = make("div", { class: "block", role: "group", "aria-label": data.title || "Details" }, ...parts);
    this.#row("blocks", inner);
  }

  /** @param {{ label: string, value: string }[]} actions */
  #actions(actions) {
    return make(
      "div",
      { class: "acts" },
      ...actions.map(({ label, value }) =>
        make("button", { type: "button", onclick: () => this.#say(value || label, label, () => {}) }, label),
      ),
    );
  }

  /** @param {Question[]} questions */
  #questions(questions) {
    const set = make("fieldset", {}, ...questions.map(question), make("button", { class: "first" }, "Send answers"));
    const form = /** @type {HTMLFormElement} */ (make("form", {}, set));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const values = new FormData(form);
      /** @type {Record<string, any>} */
      const answers = {};
      for (const { id, type } of questions) answers[id] = type === "multiselect" ? values.getAll(id) : values.get(id);
      const words = questions.map(({ id, label }) => `${label}: ${[answers[id]].flat().join(", ")}`).join("\n");
      this.#talk.changed();
      this.#say({ form: answers }, words, () => set.setAttribute("disabled", ""));
    });
    this.#form = set;
    return form;
  }

  async #forget() {
    try {
      await this.#talk.forget();
    } catch (error) {
      return this.#fail(error);
    }
    this.#renew();
    this.#tell("Forgotten.");
    this.#field.focus();
  }
}

if (!customElements.get("bytebrew-chat")) customElements.define("bytebrew-chat", Chat);
if (script?.dataset.schema) {
  const chat = document.createElement("bytebrew-chat");
  for (const [name, value] of Object.entries(script.dataset)) chat.setAttribute(name, value ?? "");
  if (document.body) document.body.append(chat);
  else addEventListener("DOMContentLoaded", () => document.body.append(chat), { once: true });
}
