// A file that is sent with its progress, which fetch does not tell.
import { ApiError, address, connection } from "./api.js";
import { token } from "./session.js";

/**
 * @param {string} path behind `/api/v1`
 * @param {File} file
 * @param {(share: number) => void} onprogress from 0 to 1
 * @param {AbortSignal} signal
 * @returns {Promise<any>} the decoded answer
 */
export function upload(path, file, onprogress, signal) {
  const form = new FormData();
  form.append("file", file);
  const sent = new XMLHttpRequest();
  sent.open("POST", address(path));
  sent.setRequestHeader("authorization", `Bearer ${token()}`);
  sent.responseType = "json";
  sent.upload.addEventListener("progress", (event) => event.lengthComputable && onprogress(event.loaded / event.total));
  return new Promise((done, fail) => {
    sent.addEventListener("load", () => {
      if (sent.status < 300) done(sent.response);
      else fail(new ApiError(sent.status, sent.response ?? { message: `The engine answers ${sent.status}` }));
    });
    sent.addEventListener("error", () => {
      connection.dispatchEvent(new CustomEvent("lost"));
      fail(new ApiError(0, {}));
    });
    sent.addEventListener("abort", () => fail(new DOMException("The page was left", "AbortError")));
    signal.addEventListener("abort", () => sent.abort(), { once: true });
    sent.send(form);
  });
}
