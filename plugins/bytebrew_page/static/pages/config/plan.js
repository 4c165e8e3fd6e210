// What an import would change: each item, and each field of it.
import { html } from "../../vendor/lit-html/lit-html.js";
import { to } from "../../core/router.js";
import { shown } from "../../core/text.js";
import { changes } from "../../parts/diff.js";

/** @typedef {{ field: string, before: unknown, after: unknown }} FieldChange */
/** @typedef {{ section: string, name: string, action: "create" | "update" | "unchanged" | "delete", fields: FieldChange[] }} Change */
/** @typedef {{ path: string, message: string, line?: number, column?: number }} Problem */
/** @typedef {{ version: string, changes: Change[], warnings: Problem[] }} Plan */

/** @type {[Change["action"], string, string][]} */
const ACTIONS = [
  ["delete", "deleted", "gone"],
  ["create", "created", "new"],
  ["update", "updated", "was"],
];
/** Where the page shows an item of a section. @type {Record<string, (name: string) => string>} */
const PLACES = {
  agents: (name) => to`/agents/${name}`,
  models: (name) => to`/models?name=${name}`,
  schemas: (name) => to`/schemas/${name}`,
  tools: (name) => to`/tools/http/${name}`,
};

/** @param {Plan} plan @param {Change["action"]} action */
export const having = (plan, action) => plan.changes.filter((one) => one.action === action);

/** The plan in a sentence. @param {Plan} plan @param {string} verb such as "would be" */
export function sentence(plan, verb) {
  const parts = ACTIONS.map(([action, words]) => [having(plan, action).length, words]).filter(([n]) => n);
  const same = having(plan, "unchanged").length;
  const rest = same ? `${same} ${same === 1 ? "stays" : "stay"} as ${same === 1 ? "it is" : "they are"}` : "";
  const changed = parts.map(([n, words], at) => `${n}${at ? "" : ` ${verb}`} ${words}`).join(", ");
  return [changed || "Nothing changes", rest].filter(Boolean).join("; ") + ".";
}

/** @param {Plan} plan @param {boolean} done whether it is applied */
export const planned = (plan, done) => html`
  ${ACTIONS.map(([action, words, kind]) => {
    const found = having(plan, action);
    if (!found.length) return "";
    return html`<section class="planned ${kind}" aria-label="${found.length} ${words}">
      <h3>${found.length} ${words}</h3>
      <ul>
        ${found.map((one) => item(one, done))}
      </ul>
    </section>`;
  })}
  ${same(having(plan, "unchanged"))}
`;

/** @param {Change} change @param {boolean} done */
const item = (change, done) => html`
  <li>
    <p><span class="meta">${change.section}</span> ${name(change, done)}</p>
    ${change.fields.length ? changes(change.fields, { before: "Now", after: "In the file" }) : ""}
  </li>
`;

/** @param {Change} change @param {boolean} done */
function name({ section, name, action }, done) {
  const there = action === "delete" ? !done : action !== "create" || done;
  const place = there && PLACES[section]?.(name);
  return place ? html`<a class="main" href=${place}>${shown(name)}</a>` : html`<b class="item-name">${shown(name)}</b>`;
}

/** @param {Change[]} found */
const same = (found) =>
  found.length
    ? html`<details class="fold">
        <summary>${found.length} unchanged</summary>
        <p class="dim">
          ${found.map((one, n) => html`${n ? ", " : ""}${one.section} <b class="item-name">${shown(one.name)}</b>`)}
        </p>
      </details>`
    : "";

/**
 * Problems of a file, each with its line. @param {Problem[]} problems @param {string} text
 * @param {(problem: Problem) => void} show
 */
export const listed = (problems, text, show) => {
  const lines = text.split("\n");
  return html`<ul class="problems">
    ${problems.map(
      (one) =>
        html`<li>
          <p>
            ${
              one.line
                ? html`<button class="textlink" type="button" @click=${() => show(one)}>
                    Line ${one.line}, column ${one.column}
                  </button>`
                : ""
            }
            <code>${shown(one.path)}</code> ${shown(one.message)}
          </p>
          ${one.line ? excerpt(lines[one.line - 1] ?? "", one.column ?? 1) : ""}
        </li>`,
    )}
  </ul>`;
};

const AROUND = 60;

/** @param {string} line @param {number} column */
function excerpt(line, column) {
  const from = Math.max(0, column - 1 - AROUND);
  const part = line.slice(from, from + 3 * AROUND);
  return html`<pre class="excerpt">${shown(part)}${"\n"}${" ".repeat(column - 1 - from)}^</pre>`;
}
