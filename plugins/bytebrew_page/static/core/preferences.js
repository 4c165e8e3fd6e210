// What a reader prefers, kept in this browser: the theme, and whether single keys do something.

const THEME = "bytebrew.theme";
const KEYS = "bytebrew.keys";

/** Shows the theme that was chosen; without a choice that of the system. */
export function applyTheme() {
  document.documentElement.dataset.theme = localStorage.getItem(THEME) ?? "";
}

/** The theme that is shown. @returns {"light" | "dark"} */
export function theme() {
  const chosen = localStorage.getItem(THEME);
  if (chosen === "light" || chosen === "dark") return chosen;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/** The theme that was chosen, "" for that of the system. */
export const chosenTheme = () => localStorage.getItem(THEME) ?? "";

/** Shows a theme from now on, with "" that of the system. @param {string} name */
export function setTheme(name) {
  if (name) localStorage.setItem(THEME, name);
  else localStorage.removeItem(THEME);
  applyTheme();
}

/** Shows the other theme from now on. */
export function changeTheme() {
  localStorage.setItem(THEME, theme() === "dark" ? "light" : "dark");
  applyTheme();
}

/** Whether single keys such as `j` and `g i` do something: a voice that is typed would press them (WCAG 2.1.4). */
export const singleKeys = () => localStorage.getItem(KEYS) !== "off";

/** @param {boolean} on */
export function setSingleKeys(on) {
  if (on) localStorage.removeItem(KEYS);
  else localStorage.setItem(KEYS, "off");
}
