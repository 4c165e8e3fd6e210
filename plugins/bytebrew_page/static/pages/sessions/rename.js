// The dialog that asks for a session's title.
import { html } from "../../vendor/lit-html/lit-html.js";
import { dialog } from "../../parts/dialog.js";

/** Asks for a title; "" for none. @param {string} title @returns {Promise<string>} */
export const titled = (title) =>
  dialog(
    "Rename the session",
    (close) =>
      html`<h2>Rename the session</h2>
        <form
          class="stack"
          @submit=${(/** @type {SubmitEvent} */ event) => {
            event.preventDefault();
            close(String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get("title")).trim());
          }}
        >
          <div class="field">
            <label for="session-title">Title</label>
            <input id="session-title" name="title" maxlength="1000" .value=${title} autofocus />
          </div>
          <div class="row">
            <button class="btn first" type="submit">Rename</button>
            <button class="btn plain" type="button" @click=${() => close()}>Cancel</button>
          </div>
        </form>`,
  );
