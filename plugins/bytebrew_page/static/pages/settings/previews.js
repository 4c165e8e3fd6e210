// What a change of a retention setting would delete, counted before it is saved.
import { api } from "../../core/api.js";
import { day, int } from "../../core/format.js";

const DAY = 86_400_000;

/** @param {number} days */
const before = (days) => new Date(Date.now() - days * DAY).toISOString();

/** A sentence by setting, for a number of days. @type {Record<string, (days: number, signal: AbortSignal) => Promise<string>>} */
export const PREVIEWS = {
  "retention.sessions": async (days, signal) => {
    const { total } = await api.get("/sessions", { to: before(days), limit: 1 }, signal);
    if (!total) return `No session began before ${day(before(days))}, so none is deleted now.`;
    return `${int(total)} ${total === 1 ? "session" : "sessions"} began before ${day(before(days))}; those without a message since then are deleted.`;
  },
  "retention.audit": async (days, signal) => {
    const { total } = await api.get("/audit", { to: before(days), limit: 1 }, signal);
    if (!total) return `No entry of the audit is from before ${day(before(days))}, so none is deleted now.`;
    return `${int(total)} ${total === 1 ? "entry" : "entries"} of the audit from before ${day(before(days))} would be deleted.`;
  },
};
