// A client for browsers and for Node 20, without a dependency: the events of a turn, to the end, over broken connections.

/** An answer in the engine's one shape of errors; `retryAfter` is in seconds, where the engine names a wait. */
export class Refused extends Error {
  constructor(status, body, retryAfter) {
    const faults = (body.details ?? []).map((one) => `${one.path}: ${one.message}`).join("; ");
    super(`${body.error}: ${body.message}${faults && ` (${faults})`}`);
    Object.assign(this, { status, code: body.error, details: body.details ?? [], retryAfter });
  }
}

/** A session with a schema. `sessionId` is there after the first event, `last` is the id of the last event seen. */
export class Conversation {
  sessionId = "";
  last = "0";

  constructor(url, token, schema) {
    Object.assign(this, { url, token, schema });
  }

  /**
   * Sends a message, a text or `{form: answers}`, and yields `{event, data}` until `done` or `error`. The message counts
   * once, however often it has to be sent. Throws Refused. What you do not know among the events, pass over.
   */
  async *say(message, { signal } = {}) {
    const body = { message, ...(this.sessionId && { session_id: this.sessionId }) };
    const key = crypto.randomUUID();
    for (let turn, waits = 0; ; ) {
      try {
        const response = turn
          ? await this.#fetch(`sessions/${this.sessionId}/events`, { signal, headers: { "Last-Event-ID": this.last } })
          : await this.#post(`schemas/${this.schema}/chat`, body, { signal, headers: { "Idempotency-Key": key } });
        this.sessionId = response.headers.get("x-session-id");
        turn ??= response.headers.get("x-turn-id");
        for await (const { id, event, data } of events(response)) {
          this.last = id ?? this.last; // what has no id is no part of the history
          if (event === "error" && !id) // the stream failed, not its turn: the engine stops, for example
            throw new Refused(response.status, { error: data.code, message: data.message }, 1);
          yield { event, data };
          if ((event === "done" || event === "error") && data.turn_id === turn) return; // others may talk here too
        }
        await pause(1); // the connection ended before the turn did
      } catch (error) {
        if (signal?.aborted) throw error;
        if (error instanceof Refused && error.code === "history_changed") this.last = "0"; // restored from a backup
        else if (error instanceof Refused && (error.retryAfter === undefined || ++waits > 5)) throw error;
        else if (!(error instanceof Refused || error instanceof TypeError)) throw error; // TypeError: the network's
        await pause(error.retryAfter ?? 1);
      }
    }
  }

  /**
   * Answers the question of a `confirmation` event; `input` are arguments that take the place of those asked about. The
   * question comes no second time, so the answer is sent until the engine has it. Throws Refused.
   */
  async respond(question, answer, { input, reason = "" } = {}) {
    const body = { confirmation_id: question.confirmation_id, answers: [answer], reason, ...(input && { input }) };
    const headers = { "Idempotency-Key": crypto.randomUUID() };
    for (;;) {
      try {
        return await (await this.#post(`sessions/${question.session_id}/respond`, body, { headers })).json();
      } catch (error) {
        if (!(error instanceof TypeError) && error.retryAfter === undefined) throw error; // TypeError: the network's
        await pause(error.retryAfter ?? 1);
      }
    }
  }

  /** Stops the turn that runs; its stream ends with `done`. */
  async cancel() {
    await this.#fetch(`sessions/${this.sessionId}/cancel`, { method: "POST" });
  }

  #post(path, body, { headers, ...rest }) {
    const json = { ...headers, "Content-Type": "application/json" };
    return this.#fetch(path, { method: "POST", body: JSON.stringify(body), headers: json, ...rest });
  }

  async #fetch(path, { headers, ...rest }) {
    const authorized = { Authorization: `Bearer ${this.token}`, ...headers };
    const response = await fetch(`${this.url}/api/v1/${path}`, { headers: authorized, ...rest });
    if (response.ok) return response;
    const away = response.status >= 502 && response.status <= 504 ? 1 : undefined; // a proxy's own answer has no wait
    const body = await response.json().catch(() => ({ error: "http_error", message: `HTTP ${response.status}` }));
    const wait = response.headers.get("retry-after");
    throw new Refused(response.status, body, wait === null ? away : Number(wait));
  }
}

const pause = (seconds) => new Promise((go) => setTimeout(go, 1000 * seconds));

async function* events(response) {
  let rest = "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let piece; !(piece = await reader.read()).done; ) {
      const frames = (rest + piece.value).split("\n\n");
      rest = frames.pop();
      for (const frame of frames) {
        if (frame.startsWith(":")) continue; // a comment: the greeting or a heartbeat
        const { id, event, data } = Object.fromEntries(frame.split("\n").map((line) => line.split(/: (.*)/s, 2)));
        yield { id, event, data: JSON.parse(data) };
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // also where the caller stops reading
  }
}
