// The plots of turns over time: how many, how fast, how many tokens, what they cost.
import { usd, big, int } from "../core/format.js";
import "./plot.js";

/** @typedef {import("../../api.ts").Part} Part */
/** @typedef {import("./plot.js").Plot} Plot */

const HOUR = new Intl.DateTimeFormat("en-GB", { hour: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric" });
const WHOLE = {
  hour: new Intl.DateTimeFormat("en-GB", { weekday: "short", hour: "2-digit", minute: "2-digit" }),
  day: new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short" }),
};

/** What an axis says of moments, and what a reader is told of them. @param {string[]} moments @param {"hour" | "day"} bucket */
export function places(moments, bucket) {
  const dates = moments.map((at) => new Date(at));
  return {
    labels: dates.map((at) => (bucket === "hour" ? HOUR : DAY).format(at)),
    places: dates.map((at) => WHOLE[bucket].format(at)),
  };
}

/** Dollars on an axis. @param {number} value */
export const dollars = (value) => (value >= 1 || value === 0 ? `$${Number(value.toFixed(2))}` : usd(value));

/** @param {number} value */
const seconds = (value) => `${Number(value.toFixed(value < 10 ? 2 : 1))} s`;

/** Turns, time to first token, tokens and cost of the parts of a time. @param {Part[]} parts @param {"hour" | "day"} bucket @returns {Plot[]} */
export function plots(parts, bucket) {
  const at = places(
    parts.map((one) => one.at),
    bucket,
  );
  /** @param {string} name @param {string} tone @param {(part: Part) => number | null} value */
  const series = (name, tone, value) => ({ name, tone, values: parts.map(value) });
  /** @param {number | null} value */
  const inSeconds = (value) => (value === null ? null : value / 1000);
  return [
    {
      title: "Turns",
      ...at,
      series: [
        series("not failed", "bar-model", (one) => one.turns - one.failed),
        series("failed", "bar-fail", (one) => one.failed),
      ],
      format: int,
      empty: "No turns in this time.",
    },
    {
      title: "Time to first token",
      ...at,
      lines: true,
      series: [
        series("p50", "bar-model", (one) => inSeconds(one.first_token_ms_p50)),
        series("p95", "bar-agent", (one) => inSeconds(one.first_token_ms_p95)),
      ],
      format: seconds,
      empty: "No model has answered in this time.",
    },
    {
      title: "Tokens",
      ...at,
      series: [
        series("input", "bar-model", (one) => one.input_tokens - one.cached_tokens),
        series("from a cache", "bar-tool", (one) => one.cached_tokens),
        series("output", "cat-3", (one) => one.output_tokens),
      ],
      format: big,
      empty: "No tokens in this time.",
    },
    {
      title: "Cost",
      ...at,
      series: [series("cost", "bar-model", (one) => one.cost_usd)],
      format: dollars,
      empty: "No cost that is known in this time.",
    },
  ];
}
