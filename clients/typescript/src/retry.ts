import { APIError, passes } from "./errors.js";

/** Waits between the tries of a request, as long as its failures may pass. */
export class Retry {
  #since = 0;
  #tries = 0;

  /** `limit` is in milliseconds from the first failure on. */
  constructor(readonly limit: number) {}

  get tries(): number {
    return this.#tries;
  }

  /** Begins to count anew: there was progress. */
  reset(): void {
    this.#since = this.#tries = 0;
  }

  /** Waits as long as the error says, else longer each time; throws an error that does not pass within the limit. */
  async wait(error: unknown, signal: AbortSignal): Promise<void> {
    if (!passes(error)) throw error;
    const now = performance.now();
    if (!this.#tries++) this.#since = now;
    const named = error instanceof APIError ? error.retryAfter : undefined;
    const jitter = 0.5 + Math.random() / 2; // so that clients do not come back all at once
    const pause = named === undefined ? jitter * Math.min(100 * 2 ** (this.#tries - 1), 5000) : named * 1000;
    if (now + pause - this.#since > this.limit) throw error;
    await sleep(pause, signal);
  }
}

/** Rejects with the signal's reason once that is aborted. */
export function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const aborted = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", aborted);
      resolve();
    }, milliseconds);
    signal.addEventListener("abort", aborted, { once: true });
  });
}
