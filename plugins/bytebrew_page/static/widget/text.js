// Elements of the widget: text stays text, whoever wrote it.
const MARKS = /\*\*([^*\n]+)\*\*|`([^`\n]+)`|\[([^\]\n]+)\]\((https?:\/\/[^\s)]+)\)|(https?:\/\/[^\s<>"'`)\]]+)/g;

/** @param {string} tag @param {Record<string, any>} properties @param {...(Node | string)} inner */
function make(tag, properties, ...inner) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...inner);
  return made;
}

/** A text with its links, bold words and code; never as markup. @param {string} text */
function marked(text) {
  /** @type {(Node | string)[]} */
  const parts = [];
  let last = 0;
  for (const hit of text.matchAll(MARKS)) {
    const [whole, bold, code, label, target, bare] = hit;
    parts.push(text.slice(last, hit.index));
    last = hit.index + whole.length;
    if (bold) parts.push(make("b", {}, bold));
    else if (code) parts.push(make("code", {}, code));
    else parts.push(...link(label ?? bare, target ?? bare));
  }
  return [...parts, text.slice(last)];
}

/** A link, and where it leads if its words do not say so. @param {string} words @param {string} target */
function link(words, target) {
  if (!URL.canParse(target)) return [words];
  const made = make("a", { href: target, target: "_blank", rel: "noopener noreferrer" }, words);
  return words === target ? [made] : [made, ` (${new URL(target).host})`];
}

/** @typedef {{ id: string, label: string, type: string, options?: { label: string, value: string }[], default?: string | string[] }} Question */

/** @param {string} title @param {{ label: string, value: any }[]} rows */
function table(title, rows) {
  const lines = rows.map(({ label, value }) =>
    make("tr", {}, make("th", { scope: "row" }, label), make("td", {}, String(value))),
  );
  return make("table", {}, make("caption", { class: "sr" }, title || "Details"), make("tbody", {}, ...lines));
}

/** A question with its field. @param {Question} one */
function question({ id, label, type, options = [], default: chosen = "" }) {
  /** @param {string} value */
  const has = (value) => [chosen].flat().includes(value);
  if (type === "multiselect")
    return make(
      "fieldset",
      {},
      make("legend", {}, label),
      ...options.map((one) =>
        make(
          "label",
          {},
          make("input", { type: "checkbox", name: id, value: one.value, checked: has(one.value) }),
          one.label,
        ),
      ),
    );
  const field =
    type === "select"
      ? make(
          "select",
          { name: id },
          ...options.map((one) => make("option", { value: one.value, selected: has(one.value) }, one.label)),
        )
      : make("input", { name: id, value: String(chosen), autocomplete: "off" });
  return make("label", {}, label, field);
}
