// Pages of a session's events by number; the numbers are of an epoch, which a restored database changes.
import { api, ApiError, part } from "../../core/api.js";

/** @typedef {import("../../../api.ts").EventPage} EventPage */

let epoch = 0;

/**
 * The events after a number.
 * @param {string} session @param {number} after @param {number} limit @param {AbortSignal} signal
 * @returns {Promise<EventPage>}
 */
export async function eventsAfter(session, after, limit, signal) {
  const path = `/sessions/${part(session)}/events`;
  for (let tries = 0; ; tries++) {
    if (after && !epoch) epoch = (await api.get(path, { follow: false, after: 0, limit: 1 }, signal)).epoch;
    const query = { follow: false, after: after ? `${epoch}:${after}` : 0, limit };
    try {
      return await api.get(path, query, signal);
    } catch (error) {
      if (tries || !(error instanceof ApiError) || error.status !== 410) throw error;
      epoch = 0; // the engine has another one since
    }
  }
}
