// What differs between two texts: the shortest list of removed and added parts (Myers, "An O(ND) Difference Algorithm").

/** A part of both texts, of the first alone or of the second alone. */
/** @typedef {{ kind: "same" | "gone" | "new", text: string }} Part */

const MOST_EDITS = 1000;

/**
 * The parts of two sequences in order. Where they differ in more than a thousand places, what lies between their
 * common beginning and end is all removed and all added.
 * @param {string[]} a
 * @param {string[]} b
 * @returns {Part[]}
 */
export function compare(a, b) {
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const middle = edits(a.slice(start, a.length - end), b.slice(start, b.length - end));
  return [...parts("same", a.slice(0, start)), ...middle, ...parts("same", a.slice(a.length - end))];
}

/** @param {Part["kind"]} kind @param {string[]} texts @returns {Part[]} */
const parts = (kind, texts) => texts.map((text) => ({ kind, text }));

/** @param {string[]} a @param {string[]} b @returns {Part[]} */
function edits(a, b) {
  const trail = search(a, b);
  if (!trail) return [...parts("gone", a), ...parts("new", b)];
  /** @type {Part[]} */
  const found = [];
  let x = a.length;
  let y = b.length;
  for (let d = trail.length - 1; d >= 0; d--) {
    const furthest = trail[d];
    const k = x - y;
    const down = k === -d || (k !== d && at(furthest, d, k - 1) < at(furthest, d, k + 1));
    const fromX = d === 0 ? 0 : at(furthest, d, down ? k + 1 : k - 1);
    const fromY = d === 0 ? 0 : fromX - (down ? k + 1 : k - 1);
    while (x > fromX && y > fromY) {
      found.push({ kind: "same", text: a[--x] });
      y--;
    }
    if (d === 0) break;
    found.push(down ? { kind: "new", text: b[--y] } : { kind: "gone", text: a[--x] });
  }
  return found.reverse();
}

/** @param {Int32Array} furthest of the diagonals -d to d @param {number} d @param {number} k */
const at = (furthest, d, k) => furthest[k + d];

/**
 * For each number of edits how far each diagonal reached before it; null if there are too many.
 * @param {string[]} a
 * @param {string[]} b
 */
function search(a, b) {
  const most = Math.min(a.length + b.length, MOST_EDITS);
  const reach = new Int32Array(2 * most + 3);
  const zero = most + 1;
  /** @type {Int32Array[]} */
  const trail = [];
  for (let d = 0; d <= most; d++) {
    trail.push(reach.slice(zero - d, zero + d + 1));
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && reach[zero + k - 1] < reach[zero + k + 1]);
      let x = down ? reach[zero + k + 1] : reach[zero + k - 1] + 1;
      let y = x - k;
      while (x < a.length && y < b.length && a[x] === b[y]) {
        x++;
        y++;
      }
      reach[zero + k] = x;
      if (x >= a.length && y >= b.length) return trail;
    }
  }
  return null;
}

/** The words, numbers, spaces and signs of a line. @param {string} line */
export const words = (line) => line.match(/\s+|[\p{L}\p{N}_]+(?:\.\p{N}+)?|[^\s\p{L}\p{N}_]/gu) ?? [];
