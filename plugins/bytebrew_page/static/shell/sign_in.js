// Signing in: the link that the engine printed, or a token that is pasted.
import { html } from "../vendor/lit-html/lit-html.js";
import { keep, signIn, token } from "../core/session.js";
import { dialog } from "../parts/dialog.js";

/** What is in a pasted text: the token of a link, or the text itself. @param {string} text */
function pasted(text) {
  const link = /#t=([^&\s]+)/.exec(text);
  return { link: link ? decodeURIComponent(link[1]) : "", plain: text.trim() };
}

/** Signs in with a pasted text; throws what is to be told. @param {string} text */
async function enter(text) {
  const { link, plain } = pasted(text);
  if (link) return signIn(link);
  const headers = { authorization: `Bearer ${plain}` };
  const response = await fetch("/api/v1/auth/whoami", { headers }).catch(() => null);
  if (!response) throw new Error("The engine does not answer");
  const answer = await response.json();
  if (response.ok) return keep({ token: plain, expires_at: answer.kind === "user" ? answer.expires_at : null });
  // neither an API token nor a session: perhaps the token of the file, which is good for one session
  await signIn(plain).catch(() => {
    throw new Error(answer.message);
  });
}

/**
 * Asks for a token until somebody is signed in; false if the dialog was closed without.
 * @param {string} [why] what was wrong with the link, if the page was opened by one
 */
export async function askToSignIn(why = "") {
  let wrong = why;
  let busy = false;
  const had = Boolean(token());
  const title = had ? "Your session has ended" : "Sign in";
  const result = await dialog(title, (close, update) => {
    /** @param {SubmitEvent} event */
    async function submit(event) {
      event.preventDefault();
      const field = /** @type {HTMLInputElement} */ (
        /** @type {HTMLFormElement} */ (event.target).elements.namedItem("token")
      );
      if (!field.value.trim()) return field.focus();
      busy = true;
      update();
      try {
        await enter(field.value);
        field.value = "";
        close("in");
      } catch (error) {
        wrong = /** @type {Error} */ (error).message;
        field.focus();
      } finally {
        busy = false;
        update();
      }
    }
    return html`
      <h2>${title}</h2>
      <p>
        Open the link that the engine printed at its start, or paste an API token or what
        <code>bytebrew session create</code> prints.
      </p>
      <form class="stack" @submit=${submit}>
        <div class="field">
          <label for="token">Token</label>
          <input
            id="token"
            name="token"
            type="password"
            autocomplete="off"
            spellcheck="false"
            autofocus
            aria-describedby=${wrong ? "token-wrong" : "token-kept"}
            aria-invalid=${wrong ? "true" : "false"}
          />
          ${
            wrong
              ? html`<div id="token-wrong" class="err" role="alert">${wrong}</div>`
              : html`<div id="token-kept" class="hint">Kept in this tab alone, until it is closed.</div>`
          }
        </div>
        <div class="row">
          <button class="btn first" type="submit" ?disabled=${busy}>Sign in</button>
          ${had ? html`<button class="btn plain" type="button" @click=${() => close()}>Read on without</button>` : ""}
        </div>
      </form>
    `;
  });
  return result === "in";
}
