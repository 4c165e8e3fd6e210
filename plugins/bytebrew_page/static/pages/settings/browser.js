// What a reader prefers: the theme, and whether single keys do something.
import { html } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { chosenTheme, setSingleKeys, setTheme, singleKeys } from "../../core/preferences.js";

const THEMES = [
  ["", "as the system"],
  ["light", "light"],
  ["dark", "dark"],
];

/** @param {() => void} changed */
export const thisBrowser = (changed) => html`
  <div class="setting">
    <div class="about"><label for="theme">Theme</label></div>
    <div class="control">
      <select id="theme" @change=${(/** @type {any} */ event) => (setTheme(event.target.value), changed())}>
        ${THEMES.map(([name, words]) => html`<option value=${name} ?selected=${name === chosenTheme()}>${words}</option>`)}
      </select>
    </div>
  </div>
  <div class="setting">
    <div class="about">
      <label for="single-keys">Single keys</label>
      <div class="hint" id="single-keys-hint">Keys such as j, k and g i move about. Press ? for all of them.</div>
    </div>
    <div class="control">
      <span class="row"
        ><input
          type="checkbox"
          id="single-keys"
          aria-describedby="single-keys-hint"
          .checked=${live(singleKeys())}
          @change=${(/** @type {any} */ event) => (setSingleKeys(event.target.checked), changed())}
        />${singleKeys() ? "on" : "off"}</span
      >
    </div>
  </div>
`;
