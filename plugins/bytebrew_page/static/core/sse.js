// Server-Sent Events out of the bytes of a response.

/**
 * The frames of a stream; lines end with CR, LF or CRLF alone, as the standard has it.
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<{ id: string, event: string, data: string }>}
 */
export async function* frames(body) {
  const reader = body.pipeThrough(/** @type {any} */ (new TextDecoderStream())).getReader();
  let text = "";
  let id = "";
  let event = "";
  /** @type {string[]} */
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      for (;;) {
        const end = text.search(/[\r\n]/);
        if (end < 0 || (text[end] === "\r" && end === text.length - 1)) break; // the LF of a CRLF may be under way
        const line = text.slice(0, end);
        text = text.slice(end + (text.startsWith("\r\n", end) ? 2 : 1));
        if (line === "") {
          if (data.length) yield { id, event: event || "message", data: data.join("\n") };
          event = "";
          data = [];
          continue;
        }
        const [name, rest] = split(line);
        if (name === "data") data.push(rest);
        else if (name === "event") event = rest;
        else if (name === "id") id = rest;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // whoever stops reading closes the connection
  }
}

/** @param {string} line */
function split(line) {
  const colon = line.indexOf(":");
  if (colon < 0) return [line, ""];
  return [line.slice(0, colon), line.slice(colon + (line[colon + 1] === " " ? 2 : 1))];
}
