// Vendors as the first steps offer them: the usual ones first, and what each needs.

/** @typedef {import("../../../api.ts").CatalogProvider} CatalogProvider */

const FIRST = ["anthropic", "openai", "google", "openrouter", "mistral", "ollama"];
/** Vendors whose address is somebody's own, with an example of one. @type {Record<string, string>} */
export const ADDRESSES = {
  ollama: "http://localhost:11434",
  openai_compatible: "http://localhost:8000/v1",
  azure_openai: "https://name.openai.azure.com",
};
/** How keys of vendors begin; the longest beginning counts. @type {[string, string][]} */
const KEYS = [
  ["sk-ant-", "anthropic"],
  ["sk-or-", "openrouter"],
  ["sk-proj-", "openai"],
  ["AIza", "google"],
  ["xai-", "xai"],
];

/** The vendor whose keys begin like this one, if that is known. @param {string} key */
export const vendorOf = (key) => KEYS.find(([beginning]) => key.startsWith(beginning))?.[1];

/** Whether a vendor takes a key. @param {CatalogProvider} vendor */
export const takesKey = (vendor) => vendor.auth_type !== "none";

/**
 * The vendors in the order in which they are shown; Ollama first where it answers on this machine.
 * @param {CatalogProvider[]} vendors
 * @param {boolean} local
 */
export function ordered(vendors, local) {
  const first = local ? ["ollama", ...FIRST] : FIRST;
  const rank = (/** @type {CatalogProvider} */ one) => (first.indexOf(one.id) + 1 || first.length + 1) - 1;
  return vendors.toSorted((a, b) => rank(a) - rank(b));
}
