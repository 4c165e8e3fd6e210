// A secret that the engine shows this once.
import { html } from "../../vendor/lit-html/lit-html.js";
import { code } from "../../parts/code.js";
import { dialog } from "../../parts/dialog.js";

/** @param {string} title @param {string} secret @param {string} words @returns {Promise<any>} */
export const shownOnce = (title, secret, words) =>
  dialog(
    title,
    (close) => html`
      <h2 tabindex="-1" autofocus>${title}</h2>
      <p class="dim">${words} It is shown this once: copy it now.</p>
      ${code("Secret", secret, secret)}
      <div class="row"><button class="btn first" type="button" @click=${() => close()}>I have stored it</button></div>
    `,
  );
