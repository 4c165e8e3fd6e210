// What the model calls of a time took: figures, plots, a table, and the same as CSV.
import { html } from "../../vendor/lit-html/lit-html.js";
import { big, int, ms, usd } from "../../core/format.js";
import { styled } from "../../core/style.js";
import { shown } from "../../core/text.js";
import { dollars, places, plots } from "../../parts/statistics.js";
import { table } from "../../parts/table.js";

/** @typedef {import("../../../api.ts").Report} Report */
/** @typedef {import("../../../api.ts").Sum} Sum */
/** @typedef {import("../../../api.ts").Statistics} Statistics */

const TONES = ["bar-model", "bar-tool", "cat-3", "bar-agent"];
const OTHERS = "bar-queue";
const SPELLED = { agent: "Agent", model: "Model", schema: "Schema", token: "Token" };
const NONE = { agent: "no agent", model: "no model", schema: "no schema", token: "no token" };
const UNPRICED = "no price known";

/** @param {number} part @param {number} whole */
const percent = (part, whole) => (whole ? `${Math.round((part / whole) * 100)} %` : "–");

/** A key as a reader sees it. @param {string} key @param {keyof typeof SPELLED} by */
const nameOf = (key, by) => key || NONE[by];

/** @param {Report} report @param {Statistics} statistics */
export function figures({ total, data }, { total: turns }) {
  const unpriced = data.filter((one) => one.unpriced_calls).map((one) => one.key);
  const cost = !total.unpriced_calls
    ? `${int(total.calls)} model calls`
    : unpriced.length === 1
      ? html`${shown(unpriced[0])} has no price`
      : `${int(total.unpriced_calls)} of ${int(total.calls)} calls have no price`;
  const each = total.cost_usd !== null && turns.turns ? total.cost_usd / turns.turns : null;
  /** @type {[string, string, unknown][]} */
  const all = [
    ["Cost", usd(total.cost_usd), cost],
    ["Turns", int(turns.turns), `${percent(turns.failed, turns.turns)} failed`],
    [
      "Tokens",
      big(total.input_tokens + total.output_tokens),
      `${percent(total.cached_tokens, total.input_tokens)} of input from a cache`,
    ],
    ["A turn costs", usd(each), `takes ${ms(turns.duration_ms_p50)}, median`],
  ];
  return html`<dl class="figures big4">
    ${all.map(
      ([name, value, words]) =>
        html`<div>
          <dt>${name}</dt>
          <dd>${value} <small>${words}</small></dd>
        </div>`,
    )}
  </dl>`;
}

/** Cost by day and key: the four dearest, and all others as one. @param {Report} daily @param {keyof typeof SPELLED} by @param {Date} since @param {Date} until @returns {import("../../parts/plot.js").Plot} */
export function cost({ data }, by, since, until) {
  /** @type {Map<string, number>} */
  const whole = new Map();
  for (const one of data) whole.set(one.key, (whole.get(one.key) ?? 0) + (one.cost_usd ?? 0));
  const keys = [...whole.keys()].sort((a, b) => (whole.get(b) ?? 0) - (whole.get(a) ?? 0));
  const own = keys.slice(0, TONES.length);
  const days = daysOf(since, until);
  /** @param {(key: string) => boolean} wanted */
  const values = (wanted) =>
    days.map((day) =>
      data.filter((one) => one.day === day && wanted(one.key)).reduce((sum, one) => sum + (one.cost_usd ?? 0), 0),
    );
  const series = own.map((key, n) => ({ name: nameOf(key, by), tone: TONES[n], values: values((one) => one === key) }));
  if (keys.length > own.length)
    series.push({ name: "others", tone: OTHERS, values: values((one) => !own.includes(one)) });
  return {
    title: `Cost by ${by}`,
    ...places(
      days.map((day) => `${day}T12:00:00Z`),
      "day",
    ),
    series,
    height: 170,
    format: dollars,
    note: "days of UTC",
    empty: "No cost that is known in this time.",
  };
}

/** The days of UTC that a time has. @param {Date} since @param {Date} until */
function daysOf(since, until) {
  const found = [];
  for (let at = since.getTime() - (since.getTime() % 86_400_000); at < until.getTime(); at += 86_400_000)
    found.push(new Date(at).toISOString().slice(0, 10));
  return found;
}

/** Tokens, turns, first token. @param {Statistics} statistics @param {"hour" | "day"} bucket */
export function plotsOf({ data }, bucket) {
  const [turns, first, tokens] = plots(data, bucket);
  return [tokens, turns, first].map((one) => ({ ...one, height: 90 }));
}

/** The sums, each with its share of the cost; a row opens the sessions. @param {Report} report @param {keyof typeof SPELLED} by */
export function sums({ data, total }, by) {
  const rows = [...data].sort((a, b) => (b.cost_usd ?? -1) - (a.cost_usd ?? -1) || b.calls - a.calls);
  /** @param {Sum} one */
  const title = (one) => {
    const name = one.key ? shown(one.key) : NONE[by];
    return (by === "agent" || by === "schema") && one.key
      ? html`<a class="main" href="/sessions?${new URLSearchParams({ [by]: one.key })}">${name}</a>`
      : html`<b>${name}</b>`;
  };
  if (!rows.length) return html`<p class="dim">No model was called in this time.</p>`;
  return html`<section class="block" aria-label="By ${by}">
    ${table(
      `Usage by ${by}`,
      [
        { title: SPELLED[by], cell: title },
        { title: "Turns", num: true, label: true, cell: (one) => int(one.turns) },
        { title: "Model calls", num: true, label: true, cell: (one) => int(one.calls) },
        { title: "Tokens in", num: true, label: true, cell: (one) => big(one.input_tokens) },
        {
          title: "of these cached",
          num: true,
          label: true,
          cell: (one) => percent(one.cached_tokens, one.input_tokens),
        },
        { title: "Tokens out", num: true, label: true, cell: (one) => big(one.output_tokens) },
        { title: "Cost", num: true, label: true, cell: (one) => costOf(one) },
        { title: "Share", num: true, cell: (one) => shareOf(one, total) },
      ],
      rows,
      (one) => one.key,
    )}
  </section>`;
}

/** @param {Sum} one */
function costOf(one) {
  if (one.cost_usd === null) return html`<span class="meta">${UNPRICED}</span>`;
  const calls = one.unpriced_calls === 1 ? "1 call" : `${int(one.unpriced_calls)} calls`;
  const doubt = one.unpriced_calls ? html` <span class="meta">+ ${calls} without a price</span>` : "";
  return html`${usd(one.cost_usd)}${doubt}`;
}

/** @param {Sum} one @param {Sum} total */
function shareOf(one, total) {
  const share = total.cost_usd ? ((one.cost_usd ?? 0) / total.cost_usd) * 100 : 0;
  return html`<div class="split share" role="img" aria-label="${Math.round(share)} percent of the cost">
    <span class="c0" ${styled({ width: `${share}%` })}></span><span class="rest"></span>
  </div>`;
}

/** The sums by key and day, as a spreadsheet reads them. @param {Report} daily @param {keyof typeof SPELLED} by */
export function csv({ data }, by) {
  const names = ["turns", "calls", "input_tokens", "cached_tokens", "output_tokens", "cost_usd", "unpriced_calls"];
  const lines = data.map((one) => [
    one.key,
    one.day ?? "",
    ...names.map((name) => /** @type {any} */ (one)[name] ?? ""),
  ]);
  return [[by, "day", ...names], ...lines].map((line) => line.map(cell).join(",")).join("\r\n");
}

/** A cell that no spreadsheet takes for a formula. @param {unknown} value */
function cell(value) {
  const text = String(value);
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
