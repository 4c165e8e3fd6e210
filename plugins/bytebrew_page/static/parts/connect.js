// The button with which somebody connects to an MCP server as themselves.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { api, part } from "../core/api.js";
import { talk } from "../core/text.js";
import { View } from "../core/view.js";

/** `server` is the name of the MCP server. */
class Connect extends View {
  server = "";
  #failure = "";

  draw() {
    return html`
      <button class="btn" type="button" @click=${() => this.#begin()}>Connect ${talk(this.server)}</button>
      ${this.#failure ? html`<span role="alert">${talk(this.#failure)}</span>` : nothing}
    `;
  }

  /** Opens the authorization server's page, which leads back to the engine. */
  async #begin() {
    const page = window.open("about:blank"); // at the click itself: browsers block what is opened later
    this.#failure = "";
    try {
      const { authorize_url: where } = await api.post(`/connections/${part(this.server)}`);
      if (!/^https?:/i.test(where)) throw new Error("The address to open is no web page");
      if (!page) throw new Error("The browser has blocked the page that was to be opened");
      page.opener = null;
      page.location.replace(where);
    } catch (error) {
      page?.close();
      this.#failure = error instanceof Error ? error.message : String(error);
    }
    this.update();
  }
}

customElements.define("bb-connect", Connect);

/** @param {string} server */
export const connect = (server) => html`<bb-connect .server=${server}></bb-connect>`;
