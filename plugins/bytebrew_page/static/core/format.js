// Numbers and times as a reader has them; a value that is not known is a dash, never a zero.

const DASH = "–";

/** A duration in milliseconds. @param {number | null | undefined} n */
export function ms(n) {
  if (n === null || n === undefined) return DASH;
  if (n < 1000) return `${Math.round(n)} ms`;
  if (n < 60_000) return `${(n / 1000).toFixed(n < 10_000 ? 2 : 1)} s`;
  if (n < 3_600_000) return `${Math.floor(n / 60_000)} m ${Math.round((n % 60_000) / 1000)} s`;
  if (n < 86_400_000) return `${Math.floor(n / 3_600_000)} h ${Math.round((n % 3_600_000) / 60_000)} m`;
  return `${Math.floor(n / 86_400_000)} d ${Math.round((n % 86_400_000) / 3_600_000)} h`;
}

/** Dollars, with as many digits as it takes to tell small sums apart. @param {number | null | undefined} n */
export function usd(n) {
  if (n === null || n === undefined) return DASH;
  if (n === 0) return "$0";
  return n < 1 ? `$${n.toFixed(4).replace(/(\.\d\d)00$/, "$1")}` : `$${n.toFixed(2)}`;
}

/** A whole number. @param {number | null | undefined} n */
export const int = (n) => (n === null || n === undefined ? DASH : n.toLocaleString("en"));

/** A large number, short. @param {number | null | undefined} n */
export function big(n) {
  if (n === null || n === undefined) return DASH;
  return n >= 1e6 ? `${(n / 1e6).toFixed(2)} M` : n >= 1e4 ? `${(n / 1e3).toFixed(0)} k` : int(n);
}

/** Bytes. @param {number | null | undefined} n */
export function bytes(n) {
  if (n === null || n === undefined) return DASH;
  if (n < 1024) return `${n} B`;
  if (n < 1024 ** 2) return `${(n / 1024).toFixed(1)} KB`;
  return n < 1024 ** 3 ? `${(n / 1024 ** 2).toFixed(1)} MB` : `${(n / 1024 ** 3).toFixed(2)} GB`;
}

/** The reader's zone, to be named once on a page with times. */
export const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const WHOLE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });

/** A moment in full, in the reader's zone: what a `title` has. @param {string} at RFC 3339 */
export const whole = (at) => WHOLE.format(new Date(at));

const DATE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium" });

/** The day of a moment, in the reader's zone. @param {string} at RFC 3339 */
export const day = (at) => DATE.format(new Date(at));

/** A moment as a clock shows it, with its day unless that is today. @param {string} at RFC 3339 */
export function clock(at) {
  const when = new Date(at);
  const time = CLOCK.format(when);
  return when.toDateString() === new Date().toDateString() ? time : `${DAY.format(when)}, ${time}`;
}

/** How long ago, or how soon: relative within a day, a date beyond. @param {string} at RFC 3339 */
export function ago(at, now = Date.now()) {
  const seconds = Math.round((now - new Date(at).getTime()) / 1000);
  const far = Math.abs(seconds);
  if (far >= 86_400) return clock(at);
  if (far < 5) return "now";
  const text = far < 60 ? `${far} s` : far < 3600 ? `${Math.floor(far / 60)} m` : `${Math.floor(far / 3600)} h`;
  return seconds < 0 ? `in ${text}` : `${text} ago`;
}

/** The first part of an id, which tells things apart for a reader. @param {string} id */
export const short = (id) => id.replace(/^([a-z]+_)?(.{8}).*$/s, "$1$2");
