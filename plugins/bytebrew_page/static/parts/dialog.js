// Dialogs: native ones, which close with Escape and give the focus back.
import { html, render } from "../vendor/lit-html/lit-html.js";

/**
 * Opens a dialog, and waits until it is closed.
 * @param {string} label
 * @param {(close: (result?: string) => void, update: () => void) => unknown} draw
 * @param {{ kind?: string }} [how] `kind` is its class: box, sheet, palette or menu
 * @returns {Promise<string>} what it was closed with, "" for Escape
 */
export function dialog(label, draw, { kind = "box" } = {}) {
  const box = document.createElement("dialog");
  box.className = kind;
  box.setAttribute("aria-label", label);
  const close = (result = "") => box.close(result);
  const update = () => render(draw(close, update), box);
  document.body.append(box);
  update();
  box.showModal();
  if (!kind.startsWith("box")) box.addEventListener("click", (event) => event.target === box && close());
  return new Promise((closed) => {
    box.addEventListener("close", () => {
      box.remove();
      closed(box.returnValue);
    });
  });
}

/**
 * Asks before what cannot be undone; the button names the thing.
 * @param {string} act such as "Delete agent refunds"
 * @param {unknown} words what goes with it
 * @returns {Promise<boolean>}
 */
export async function sure(act, words) {
  const result = await dialog(
    act,
    (close) => html`
      <h2 tabindex="-1" autofocus>${act}?</h2>
      <div>${words}</div>
      <div class="row">
        <button class="btn no" type="button" @click=${() => close("yes")}>${act}</button>
        <button class="btn plain" type="button" @click=${() => close()}>Keep it</button>
      </div>
    `,
  );
  return result === "yes";
}
