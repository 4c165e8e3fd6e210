// The dialog that makes a schema.
import { html } from "../../vendor/lit-html/lit-html.js";
import { ApiError, api } from "../../core/api.js";
import { go, to } from "../../core/router.js";
import { dialog } from "../../parts/dialog.js";
import { faults, field } from "../../parts/field.js";

const FIELDS = ["$.name", "$.entry_agent"];

/** Asks for a name and an agent, makes the schema, and opens it. */
export async function newSchema() {
  /** @type {{ name: string }[]} */
  const agents = await api.get("/agents").catch(() => []);
  /** @type {Error | null} */
  let error = null;
  let busy = false;
  const name = await dialog("New schema", (close, update) => {
    const wrong = faults(error instanceof ApiError ? error : null, FIELDS);
    /** @param {SubmitEvent} event */
    const make = async (event) => {
      event.preventDefault();
      const sent = Object.fromEntries(new FormData(/** @type {HTMLFormElement} */ (event.target)));
      busy = true;
      error = null;
      update();
      try {
        const made = await api.post("/schemas", { ...sent, chat_enabled: sent.chat_enabled === "on" });
        return close(made.name);
      } catch (caught) {
        error = /** @type {Error} */ (caught);
      }
      busy = false;
      update();
    };
    return html`<form class="stack" novalidate @submit=${make}>
      <h2>New schema</h2>
      ${
        wrong[""] || (error && !(error instanceof ApiError))
          ? html`<div class="note fail" role="alert">${wrong[""] ?? error?.message}</div>`
          : ""
      }
      ${field(
        "Name",
        "$.name",
        {
          hint: "name: lower-case letters, digits and dashes; it is part of the URL and fixed",
          error: wrong["$.name"],
        },
        (id, described, invalid) =>
          html`<input
            id=${id}
            name="name"
            autocomplete="off"
            autofocus
            aria-describedby=${described}
            aria-invalid=${invalid}
          />`,
      )}
      ${field(
        "Who answers first",
        "$.entry_agent",
        {
          hint: agents.length ? "entry_agent" : html`There is no agent yet. <a href="/agents">Make one</a> first.`,
          error: wrong["$.entry_agent"],
        },
        (id, described, invalid) =>
          html`<select id=${id} name="entry_agent" aria-describedby=${described} aria-invalid=${invalid}>
            ${agents.map((one) => html`<option>${one.name}</option>`)}
          </select>`,
      )}
      <label class="row"><input type="checkbox" name="chat_enabled" checked /> Chat is on</label>
      <div class="row">
        <button class="btn first" ?disabled=${busy}>Make schema</button>
        <button class="btn plain" type="button" @click=${() => close()}>Cancel</button>
      </div>
    </form>`;
  });
  if (name) go(to`/schemas/${name}`);
  return name;
}
