// Failed turns by their cause, the newest first; a muted one is kept apart.
import { html } from "../../vendor/lit-html/lit-html.js";
import { api, part } from "../../core/api.js";
import { ago, clock, int, whole } from "../../core/format.js";
import { failed } from "../../core/resource.js";
import { marked, shown } from "../../core/text.js";
import { time } from "../../parts/head.js";
import { state } from "../../parts/state.js";
import { styled } from "../../core/style.js";

/** @typedef {import("../../../api.ts").Cause} Cause */
/** @typedef {import("../../core/resource.js").Resource<import("../../../api.ts").Causes>} Causes */

const DAY = 86_400_000;

/** @param {Causes} causes */
export function failures(causes) {
  if (causes.error && !causes.at) {
    const { status } = /** @type {any} */ (causes.error);
    return status === 403 || status === 404 ? "" : failed(causes.error, causes.at, () => causes.reload());
  }
  const all = causes.value?.data ?? [];
  if (!all.length) return "";
  const heard = all.filter((one) => !one.muted);
  const muted = all.filter((one) => one.muted);
  const count = `${heard.length} ${heard.length === 1 ? "cause" : "causes"}`;
  return html`<section class="block" aria-labelledby="failed">
    <div class="bar">
      <h2 id="failed" tabindex="-1">Failed turns · ${count}</h2>
      <span class="meta hide-s">last 24 hours</span>
    </div>
    ${causes.error ? failed(causes.error, causes.at, () => causes.reload()) : ""}
    <ul class="list">
      ${heard.map((one) => row(one, causes))}
    </ul>
    ${
      muted.length
        ? html`<details class="muted">
            <summary>${muted.length} muted</summary>
            <ul class="list">
              ${muted.map((one) => row(one, causes))}
            </ul>
          </details>`
        : ""
    }
  </section>`;
}

/** @param {Cause} cause @param {Causes} causes */
function row(cause, causes) {
  const query = new URLSearchParams({ status: "failed", error: cause.code, agent: cause.agent });
  const words = cause.count === 1 ? "1 turn" : `${int(cause.count)} turns`;
  return html`<li class="cause">
    ${state("failed", "")}
    <div class="line">
      <strong title=${marked(cause.message)}><span class="two">${shown(cause.message || cause.code)}</span></strong>
      <span class="meta"
        >${cause.code} · ${shown(cause.agent)} · since ${time(cause.first_at, clock, whole)} · last
        ${time(cause.last_at, ago, whole)}</span
      >
    </div>
    ${spark(cause.counts)}
    <b class="num">${words}</b>
    ${cause.muted ? unmute(cause, causes) : mute(cause, causes)}
    <a class="btn go" href="/sessions?${query}" aria-label="Look at the turns that failed with ${cause.code}">Look</a>
  </li>`;
}

/** How often in each of 24 parts of the time. @param {number[]} counts */
function spark(counts) {
  const most = Math.max(...counts, 1);
  return html`<span class="spark hide-s" aria-hidden="true">
    ${counts.map((one) => html`<i class=${one ? "" : "none"} ${styled({ "block-size": `${Math.max(8, (one / most) * 100)}%` })}></i>`)}
  </span>`;
}

/** @param {Cause} cause @param {Causes} causes */
function mute(cause, causes) {
  /** @param {Event} event */
  const change = async (event) => {
    const select = /** @type {HTMLSelectElement} */ (event.target);
    const body = {
      day: { muted_until: new Date(Date.now() + DAY).toISOString() },
      doubled: { muted_count: cause.stored * 2 },
    }[select.value];
    select.value = "";
    if (body) await put(cause, body, causes);
  };
  return html`<select class="mute" aria-label="Mute ${cause.code} of ${cause.agent}" @change=${change}>
    <option value="">Mute</option>
    <option value="day">for a day</option>
    <option value="doubled">until it has doubled</option>
  </select>`;
}

/** @param {Cause} cause @param {Causes} causes */
const unmute = (cause, causes) =>
  html`<button class="btn plain" type="button" @click=${() => put(cause, {}, causes)}>Unmute</button>`;

/** @param {Cause} cause @param {any} body @param {Causes} causes */
async function put(cause, body, causes) {
  try {
    await api.post(`/turns/causes/${part(cause.key)}/mute`, body);
    await causes.reload();
  } catch (error) {
    causes.error = /** @type {Error} */ (error);
    causes.view.update();
  }
}
