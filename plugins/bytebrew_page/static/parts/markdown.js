// Markdown of models and people: an allow-list of elements, and everything else is text.
import { html, render } from "../vendor/lit-html/lit-html.js";
import { suspicious, talk } from "../core/text.js";
import { View } from "../core/view.js";
import { code } from "./code.js";

const MOST = 200_000; // longer ones are shown as they are
const ALLOWED = {
  ALLOWED_TAGS: [
    ...["p", "br", "strong", "em", "del", "code", "pre", "ul", "ol", "li", "blockquote", "a", "hr"],
    ...["table", "thead", "tbody", "tr", "th", "td", "h3", "h4", "h5"],
  ],
  ALLOWED_ATTR: ["href", "start", "class"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

/** @typedef {{ lex: (text: string) => any[], fragment: (token: any, links: any) => DocumentFragment }} Reader */
/** @type {Reader | null} */
let reader = null;
/** @type {Promise<Reader> | null} */
let loading = null;

/** @param {string} text */
const escaped = (text) => text.replace(/[&<>"]/g, (one) => `&#${one.charCodeAt(0)};`);

/** The libraries, which only pages with Markdown load. @returns {Promise<Reader>} */
async function load() {
  const [{ Marked, Parser }] = await Promise.all([
    import("../vendor/marked/lib/marked.esm.js"),
    import("../vendor/dompurify/dist/purify.min.js"),
  ]);
  const purify = /** @type {any} */ (globalThis).DOMPurify; // its small form is no module
  const marked = new Marked({
    gfm: true,
    renderer: {
      html: (token) => (token.block ? `<p>${escaped(token.text)}</p>` : escaped(token.text)), // markup is text
      heading({ tokens, depth }) {
        const level = Math.min(depth + 2, 5);
        return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
      },
      image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || href)}</a>`, // nothing is loaded
      checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    },
  });
  const options = marked.defaults;
  return {
    lex: (text) => marked.lexer(text),
    fragment(token, links) {
      const tokens = Object.assign([token], { links });
      return furnished(/** @type {any} */ (purify.sanitize(Parser.parse(tokens, options), ALLOWED)));
    },
  };
}

/** What a clean fragment gets beside its text: hosts of links, names of hidden characters, Copy on code. @param {DocumentFragment} part */
function furnished(part) {
  for (const link of part.querySelectorAll("a")) {
    const href = link.getAttribute("href");
    if (!href) {
      link.replaceWith(...link.childNodes);
      continue;
    }
    const url = new URL(href);
    link.target = "_blank";
    link.rel = "noreferrer";
    link.dataset.host = url.protocol === "mailto:" ? url.pathname : url.host;
  }
  for (const one of part.querySelectorAll("[class]:not(code)")) one.removeAttribute("class");
  for (const block of part.querySelectorAll("pre")) {
    const text = block.textContent ?? "";
    const language = /(?:^| )language-([\w+#.-]{1,30})/.exec(block.firstElementChild?.className ?? "")?.[1];
    block.replaceWith(drawn("div", code(language ?? "Code", talk(text.replace(/\n$/, "")), text)));
  }
  for (const table of part.querySelectorAll("table")) {
    const scroller = document.createElement("div");
    scroller.className = "scroll";
    scroller.tabIndex = 0;
    scroller.setAttribute("role", "group");
    scroller.setAttribute("aria-label", "Table");
    table.replaceWith(scroller);
    scroller.append(table);
  }
  const walker = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) found.push(/** @type {Text} */ (walker.currentNode));
  for (const node of found) if (suspicious(node.data)) node.replaceWith(drawn("span", talk(node.data)));
  return part;
}

/** @param {string} tag @param {unknown} template */
function drawn(tag, template) {
  const element = document.createElement(tag);
  render(template, element);
  return element;
}

/** A text in Markdown: `<bb-markdown .text=${text}>`; what did not change stays in place while it grows. */
class Markdown extends View {
  #text = "";
  /** @type {{ raw: string, nodes: ChildNode[] }[]} */
  #blocks = [];
  #due = 0;
  #cost = 0;

  /** @param {string} text */
  set text(text) {
    if (text === this.#text) return;
    this.#text = text;
    if (this.isConnected) this.#later();
  }

  start() {
    this.dir = "auto";
    this.classList.add("md");
    if (!reader) {
      loading ??= load();
      loading.then((found) => ((reader = found), this.#grow())).catch(() => this.#plain());
    }
    this.#grow();
  }

  update() {} // it draws by itself

  /** Long texts are read less often while they grow. */
  #later() {
    if (this.#due) return;
    this.#due = window.setTimeout(
      () => {
        this.#due = 0;
        if (this.isConnected) this.#grow();
      },
      Math.min(500, this.#cost * 4),
    );
  }

  #plain() {
    const begun = performance.now();
    this.#blocks = [];
    const text = drawn("p", talk(this.#text));
    text.className = "pre";
    this.replaceChildren(text);
    this.#cost = performance.now() - begun;
  }

  #grow() {
    if (!reader || this.#text.length > MOST) return this.#plain();
    const begun = performance.now();
    if (!this.#blocks.length) this.replaceChildren();
    const tokens = reader.lex(this.#text);
    let same = 0;
    while (same < this.#blocks.length && same < tokens.length && this.#blocks[same].raw === tokens[same].raw) same += 1;
    for (const { nodes } of this.#blocks.splice(same)) nodes.forEach((node) => node.remove());
    for (const token of tokens.slice(same)) {
      const part = reader.fragment(token, /** @type {any} */ (tokens).links);
      const nodes = [...part.childNodes];
      this.append(part);
      this.#blocks.push({ raw: token.raw, nodes });
    }
    this.#cost = performance.now() - begun;
  }
}
customElements.define("bb-markdown", Markdown);

/** A text in Markdown. @param {string} text */
export const markdown = (text) => html`<bb-markdown .text=${text}></bb-markdown>`;
