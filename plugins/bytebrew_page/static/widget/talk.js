// A conversation with the engine, as one visitor: requests, and events over broken connections.
const DAY = 86_400_000;
const WAITS = [0, 500, 1000, 2000, 5000];

/** A refusal that the visitor may read. */
class Refused extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The events of a stream with their ids. @param {Response} response */
async function* events(response) {
  const body = /** @type {ReadableStream<Uint8Array>} */ (response.body);
  const reader = body.pipeThrough(/** @type {any} */ (new TextDecoderStream())).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text = (text + value).replace(/\r\n/g, "\n");
      for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
        const lines = text.slice(0, end).split("\n");
        /** @param {string} name */
        const field = (name) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2) ?? "";
        const data = field("data");
        if (data) yield { id: field("id"), name: field("event"), data: JSON.parse(data) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** One visitor's conversation with a schema. */
class Talk {
  /** The id of the last event that was read. */
  #last = "0";
  /** Of the message that is being sent: sent again, it begins nothing twice. */
  #key = "";
  #ended = new AbortController();

  /** @param {string} engine @param {string} schema @param {string} token of the page */
  constructor(engine, schema, token) {
    this.engine = engine;
    this.schema = schema;
    this.token = token;
    this.memory = new Memory(`${engine} ${schema}`);
  }

  /** The session, "" before the first message. */
  get session() {
    return this.memory.kept.session ?? "";
  }

  get ended() {
    return this.#ended.signal.aborted;
  }

  /** Stops whatever is under way. */
  end() {
    this.#ended.abort();
  }

  /** Whether the engine answers; if it does not answer pages of this origin, the console says what to set. */
  async answers() {
    const url = `${this.engine}/api/v1/health`;
    /** @param {RequestMode} mode */
    const tried = (mode) =>
      fetch(url, { mode, signal: this.#ended.signal }).then(
        () => true,
        () => false,
      );
    if (await tried("cors")) return true;
    if (await tried("no-cors"))
      console.error(
        `bytebrew-chat: ${this.engine} does not answer pages of ${location.origin}. ` +
          "Add this origin to the setting widget.origins, or to BYTEBREW_CORS_ORIGINS.",
      );
    return false;
  }

  /**
   * A request as this visitor; throws Refused, or what the network says.
   * @param {string} method
   * @param {string} path
   * @param {{ body?: any, headers?: Record<string, string> }} [what]
   */
  async ask(method, path, { body, headers = {} } = {}) {
    const token = await this.#visitor();
    return this.#fetch(method, path, body, { ...headers, authorization: `Bearer ${token}` });
  }

  /** @param {string} method @param {string} path @param {any} body @param {Record<string, string>} headers */
  async #fetch(method, path, body, headers) {
    const response = await fetch(`${this.engine}/api/v1${path}`, {
      method,
      headers: body === undefined ? headers : { ...headers, "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: this.#ended.signal,
    });
    if (response.ok) return response;
    const refusal = await response.json().catch(() => ({}));
    throw new Refused(response.status, refusal.message ?? "This did not work; try again later");
  }

  /** The token of this visitor, who stays the same one as long as it is renewed. */
  async #visitor() {
    const { token = "", until = "" } = this.memory.kept;
    const left = Date.parse(until) - Date.now();
    if (token && left > DAY) return token;
    const headers = { authorization: `Bearer ${this.token}` };
    const known = token && left > 0 ? { access_token: token } : {};
    const response = await this.#fetch("POST", "/auth/visitors", known, headers).catch((error) => {
      if (!known.access_token || error.status !== 401) throw error;
      return this.#fetch("POST", "/auth/visitors", {}, headers); // a new visitor in place of one that is not known
    });
    const answer = await response.json();
    this.memory.keep({ token: answer.access_token, until: answer.expires_at });
    return /** @type {string} */ (answer.access_token);
  }

  /** What the visitor has said so far. @returns {Promise<string[]>} */
  async said() {
    const response = await this.ask("GET", `/sessions/${this.session}/messages`);
    /** @type {{ role: string, content: string }[]} */
    const rows = await response.json();
    return rows.filter((row) => row.role === "user").map((row) => row.content);
  }

  /** The message is another one than before. */
  changed() {
    this.#key = "";
  }

  /** Says something, and gives the stream of the answer. @param {any} message */
  async say(message) {
    this.#key ||= crypto.randomUUID();
    const body = this.session ? { message, session_id: this.session } : { message };
    const path = `/schemas/${encodeURIComponent(this.schema)}/chat`;
    const response = await this.ask("POST", path, { body, headers: { "idempotency-key": this.#key } });
    this.#key = "";
    this.memory.keep({ session: response.headers.get("x-session-id") ?? this.session });
    return response;
  }

  /**
   * The events after the last one, over broken connections, until the reader has enough; throws Refused.
   * @param {Response | undefined} response the stream to begin with
   * @param {() => void} broken is called where the connection is gone
   */
  async *events(response, broken) {
    for (let tries = 0; !this.ended; tries += 1) {
      try {
        if (!response) {
          const wait = WAITS[Math.min(tries, WAITS.length - 1)] * (0.75 + Math.random() / 2);
          await new Promise((go) => setTimeout(go, wait));
          const headers = { "last-event-id": this.#last };
          response = await this.ask("GET", `/sessions/${this.session}/events`, { headers });
        }
        for await (const event of events(response)) {
          tries = 0;
          if (event.id) this.#last = event.id;
          yield event;
        }
      } catch (error) {
        if (this.ended) return;
        if (error instanceof Refused && error.status < 500 && error.status !== 429) throw error;
      }
      response = undefined;
      if (tries > 0) broken();
    }
  }

  /** Ends the conversation, here and in the engine. */
  async forget() {
    try {
      if (this.session) await this.ask("DELETE", `/sessions/${this.session}`);
    } catch (error) {
      if (!(error instanceof Refused && error.status === 404)) throw error;
    }
    this.end();
    this.memory.keep(null);
  }
}
