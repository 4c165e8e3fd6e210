import { lost } from "./errors.js";

/** One event of a stream as it is on the wire; `id` and `event` are empty where it has none. */
export interface RawFrame {
  id: string;
  event: string;
  data: string;
}

/**
 * The events of a stream of Server-Sent Events (WHATWG HTML, section 9.2.6).
 *
 * Lines end with CR, LF or CRLF and with nothing else: U+2028 and U+2029 are text. Comments and fields that are not
 * known are passed over, and so is an event that the stream ends within.
 */
export async function* frames(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<RawFrame> {
  const decoder = new TextDecoder();
  const ends = /\r\n|\r|\n/g;
  const pieces: string[] = []; // of a line that has not ended
  let halfEnd = false; // the chunk before ended with CR: an LF that follows is of the same end
  let frame: RawFrame = { id: "", event: "", data: "" };
  let hasData = false;
  for await (const chunk of chunks) {
    let text = decoder.decode(chunk, { stream: true });
    if (!text) continue;
    if (halfEnd && text.startsWith("\n")) text = text.slice(1);
    halfEnd = text.endsWith("\r");
    let begin = 0;
    ends.lastIndex = 0;
    for (let end = ends.exec(text); end; end = ends.exec(text)) {
      pieces.push(text.slice(begin, end.index));
      const line = pieces.splice(0).join("");
      begin = ends.lastIndex;
      if (line === "") {
        if (hasData) yield frame;
        frame = { id: "", event: "", data: "" };
        hasData = false;
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) continue;
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
      if (name === "data") {
        frame.data = hasData ? `${frame.data}\n${value}` : value;
        hasData = true;
      } else if (name === "event") frame.event = value;
      else if (name === "id" && !value.includes("\0")) frame.id = value;
    }
    if (begin < text.length) pieces.push(text.slice(begin));
  }
}

/** The chunks of a body until the signal is aborted; `silent` is called when one takes longer than `silence`, in ms. */
export async function* chunksOf(
  body: ReadableStream<Uint8Array>,
  signal: AbortSignal,
  silence: number,
  silent: () => void,
): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  const closed = () => void reader.cancel().catch(() => {}); // the connection may have failed already
  signal.addEventListener("abort", closed); // ends a read that waits
  try {
    for (;;) {
      const timer = setTimeout(silent, silence);
      const piece = await reader
        .read()
        .catch(lost)
        .finally(() => clearTimeout(timer));
      signal.throwIfAborted();
      if (piece.done) return;
      yield piece.value;
    }
  } finally {
    signal.removeEventListener("abort", closed);
    closed();
  }
}
