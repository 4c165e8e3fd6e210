// The one policy of Trusted Types that is the page's own: addresses of its own scripts, and no others.

const { trustedTypes } = /** @type {any} */ (window);
const policy = trustedTypes?.createPolicy("bytebrew", {
  /** @param {string} url */
  createScriptURL(url) {
    if (new URL(url).origin !== location.origin) throw new TypeError(`${url} is no script of the page`);
    return url;
  },
});

/**
 * The address of a script of the page, as a worker or an element takes it.
 * @param {string} path relative to `base`
 * @param {string} base `import.meta.url`
 * @returns {any}
 */
export function script(path, base) {
  const url = new URL(path, base).href;
  return policy?.createScriptURL(url) ?? url;
}
