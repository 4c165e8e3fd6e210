// The steps of a model's verification: whether the vendor is reached, takes the key, answers and calls a tool.
import { html } from "../vendor/lit-html/lit-html.js";
import { ms } from "../core/format.js";
import { shown } from "../core/text.js";
import { state } from "./state.js";

/** @typedef {import("../../api.ts").Verification} Verification */
/** @typedef {Verification["steps"][number]} Step */

/** What is said of a step: before it, while it runs, when it is done, and when it failed. @type {Record<string, [string, string, string]>} */
const WORDS = {
  reached: ["Reaching the vendor", "The vendor is reached", "The vendor is not reached"],
  key: ["Showing the key", "The key is accepted", "The key was not accepted"],
  answers: ["Asking for an answer", "It answers", "It does not answer"],
  tool_call: ["Asking for a tool call", "It calls tools", "It calls no tool"],
};
const ORDER = ["reached", "key", "answers", "tool_call"];

/** What to do about a step that failed. @type {Record<string, string>} */
const ADVICE = {
  reached: "Look at the address, and whether this machine may reach it.",
  key: "Write the key again, or make a new one in the vendor's console.",
  answers: "Look at the name of the model, and at your account with the vendor.",
  tool_call: "It can talk. Agents that use tools need another model.",
};

/** The step that failed, if one did. @param {Verification | null | undefined} verification */
export const fault = (verification) => verification?.steps.find((step) => step.ok === false);

/** The steps as a list; without a verification they are under way. @param {Verification | null} verification */
export const checks = (verification) => html`
  <ul class="checks" aria-busy=${verification ? "false" : "true"}>
    ${ORDER.map((name, n) => {
      const step = verification?.steps.find((one) => one.name === name);
      const [doing, done, failed] = WORDS[name];
      if (!step) return line(n ? "queued" : "running", doing, "");
      if (step.ok === null) return line("queued", `${doing}: not tried`, "");
      return line(step.ok ? "ok" : "failed", step.ok ? done : failed, step.ms === null ? "" : ms(step.ms));
    })}
  </ul>
`;

/** @param {string} kind @param {string} words @param {string} took */
const line = (kind, words, took) =>
  html`<li>${state(kind, "")}<span>${words}</span>${took ? html`<span class="t">${took}</span>` : ""}</li>`;

/** What the vendor said of the step that failed, and what to do about it. @param {Verification} verification */
export function verdict(verification) {
  const failed = fault(verification);
  if (!failed) return "";
  const kind = failed.name === "tool_call" ? "wait" : "fail";
  return html`<p class="note ${kind}">
    ${failed.message ? html`The vendor says: <q class="any">${shown(failed.message)}</q> ` : ""}${ADVICE[failed.name]}
  </p>`;
}

/** A verification in a few words, with its state. @param {Verification | null} verification @returns {[string, string]} */
export function summary(verification) {
  if (!verification) return ["unverified", "not verified"];
  const failed = fault(verification);
  if (!failed) {
    const tools = verification.tool_calling === "supported" ? "tools · " : "";
    return ["ok", `ok · ${tools}${ms(verification.response_time_ms)}`];
  }
  if (failed.name === "tool_call") return ["alert", "answers, but calls no tools"];
  return ["failed", WORDS[failed.name][2].toLowerCase()];
}
