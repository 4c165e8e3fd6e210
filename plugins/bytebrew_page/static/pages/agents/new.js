// The dialog that makes an agent: a name and what it is for; the editor has the rest.
import { html } from "../../vendor/lit-html/lit-html.js";
import { ApiError, api } from "../../core/api.js";
import { go, to } from "../../core/router.js";
import { dialog } from "../../parts/dialog.js";
import { faults, field } from "../../parts/field.js";

/** Asks for a name, makes the agent, and opens its editor. */
export async function newAgent() {
  /** @type {Error | null} */
  let error = null;
  let busy = false;
  const name = await dialog("New agent", (close, update) => {
    const wrong = faults(error instanceof ApiError ? error : null, ["$.name", "$.description"]);
    /** @param {SubmitEvent} event */
    const make = async (event) => {
      event.preventDefault();
      const sent = Object.fromEntries(new FormData(/** @type {HTMLFormElement} */ (event.target)));
      busy = true;
      error = null;
      update();
      try {
        const made = await api.post("/agents", sent);
        return close(made.name);
      } catch (caught) {
        error = /** @type {Error} */ (caught);
      }
      busy = false;
      update();
    };
    return html`<form class="stack" novalidate @submit=${make}>
      <h2>New agent</h2>
      ${
        wrong[""] || (error && !(error instanceof ApiError))
          ? html`<div class="note fail" role="alert">${wrong[""] ?? error?.message}</div>`
          : ""
      }
      ${line("Name", "name", "name: lower-case letters, digits, dots, dashes; it is fixed", wrong["$.name"])}
      ${line("What it is for", "description", "description: for people and for agents that may ask it", wrong["$.description"])}
      <div class="row">
        <button class="btn first" ?disabled=${busy}>Make agent</button>
        <button class="btn plain" type="button" @click=${() => close()}>Cancel</button>
      </div>
    </form>`;
  });
  if (name) go(to`/agents/${name}`);
}

/** @param {string} label @param {string} name @param {string} hint @param {string} [error] */
const line = (label, name, hint, error) =>
  field(
    label,
    `$.${name}`,
    { hint, error },
    (id, described, invalid) =>
      html`<input
        id=${id}
        name=${name}
        autocomplete="off"
        ?autofocus=${name === "name"}
        aria-describedby=${described}
        aria-invalid=${invalid}
      />`,
  );
