// The address bar is the state: every filter, tab and selection of a page is in its URL.

/** Where the reader is: the first word of the path, the words behind it, and the parameters. */
/** @typedef {{ page: string, rest: string[], query: URLSearchParams }} Place */

/** Dispatches `moved` after each change of the address; its `detail` says whether the reader stays where they are. */
export const moves = new EventTarget();

/** A part of a path; what is no UTF-8 stays as it is. @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** @returns {Place} */
export function place() {
  const [page, ...rest] = location.pathname.split("/").filter(Boolean).map(decoded);
  return { page: !page || page === "admin" ? "inbox" : page, rest, query: new URLSearchParams(location.search) };
}

/**
 * Goes to an address of the page; `replace` where Back should skip what was.
 * @param {string} url
 * @param {{ replace?: boolean }} [how]
 */
export function go(url, { replace = false } = {}) {
  if (!moves.dispatchEvent(new CustomEvent("leaving", { cancelable: true, detail: url }))) return;
  history[replace ? "replaceState" : "pushState"](null, "", url);
  moves.dispatchEvent(new CustomEvent("moved", { detail: replace }));
}

/**
 * Changes parameters of the address, and replaces it: "" and null take one away.
 * @param {Record<string, string | number | null | undefined>} changes
 * @param {{ push?: boolean }} [how]
 */
export function setQuery(changes, { push = false } = {}) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === "" || value === null || value === undefined) query.delete(name);
    else query.set(name, String(value));
  }
  const text = query.toString();
  history[push ? "pushState" : "replaceState"](null, "", location.pathname + (text ? `?${text}` : ""));
  moves.dispatchEvent(new Event("moved"));
}

/** An address with a part of it encoded: `` to`/sessions/${id}` ``. @param {TemplateStringsArray} words @param {...string} values */
export const to = (words, ...values) =>
  words.map((word, n) => word + (n < values.length ? encodeURIComponent(values[n]) : "")).join("");

/** Follows links to addresses of the page without loading anything. @param {(page: string) => boolean} known */
export function followLinks(known) {
  addEventListener("popstate", () => moves.dispatchEvent(new Event("moved")));
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    const link = /** @type {Element} */ (event.composedPath()[0]).closest?.("a[href]");
    if (!(link instanceof HTMLAnchorElement) || link.origin !== location.origin) return;
    if (link.target || link.hasAttribute("download")) return;
    const first = link.pathname.split("/")[1];
    if (first !== "" && !known(first)) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}
