// What stands around the form of an agent: the bar of unsaved changes, what others saved meanwhile, and copies.
import { html } from "../../vendor/lit-html/lit-html.js";
import { to } from "../../core/router.js";
import { shown } from "../../core/text.js";
import "../../parts/code.js";
import { dialog } from "../../parts/dialog.js";
import { changes } from "../../parts/diff.js";
import { differing, wordsOf } from "./form.js";
import { comparison, DRAFT } from "./versions.js";

/** @typedef {import("./form.js").Form} Form */
/** @typedef {import("./form.js").Content} Content */
/** @typedef {import("./store.js").Base} Base */

/**
 * The bar at the bottom while there are changes.
 * @param {string} name @param {Form} form @param {number} n
 * @param {{ busy: boolean, stale: boolean, save: () => void, discard: () => void }} how
 */
export function saveBar(name, form, n, { busy, stale, save, discard }) {
  const count = form.changed.length;
  const wrong = Object.keys(form.faults).filter(Boolean).length;
  return html`<div class="savebar" role="region" aria-label="Unsaved changes">
    <span class="grow say">
      <b>${count} ${count === 1 ? "change" : "changes"}</b>
      <span class="meta after">
        ${form.changed.map(wordsOf).join(", ")}${wrong ? html` · <span class="wrong">${wrong} to put right</span>` : ""}
      </span>
    </span>
    <button class="btn plain" type="button" @click=${discard}>Discard</button>
    <a class="btn" href=${comparison(name, n, DRAFT)}>See the diff</a>
    <button
      class="btn first"
      type="button"
      ?disabled=${busy || stale || Object.keys(form.own).length > 0}
      title=${stale ? "First decide about what was saved meanwhile" : ""}
      @click=${save}
    >
      Save as v${n + 1}
    </button>
  </div>`;
}

/**
 * What others have saved since the form was loaded: the differences of both, and the two ways to go on.
 * @param {string} name @param {Base} base @param {Base} theirs @param {Form} form
 * @param {{ rebase: () => void, discard: () => void }} how
 */
export function meanwhile(name, base, theirs, form, { rebase, discard }) {
  const changed = differing(base.content, theirs.content);
  const both = changed.filter((field) => form.changed.includes(field));
  const words = changed.map(wordsOf).join(", ") || "nothing that you see";
  return html`<div class="note wait" role="alert" tabindex="-1">
    <div class="stack">
      <p>
        <b>v${theirs.n} was saved while you edited v${base.n}.</b> It changed ${words}.
        ${both.length ? html`You both changed ${both.map(wordsOf).join(", ")}.` : "None of that is among your changes."}
        <a href=${comparison(name, base.n, theirs.n)}>Compare v${base.n} and v${theirs.n}</a>
      </p>
      ${
        both.length
          ? changes(
              both.map((field) => ({ field, before: theirs.content[field], after: form.value(field) })),
              { before: `v${theirs.n}`, after: "Yours" },
            )
          : ""
      }
      <div class="row wrap">
        <button class="btn" type="button" @click=${rebase}>Put my changes on top of v${theirs.n}</button>
        <button class="btn plain" type="button" @click=${discard}>Discard mine</button>
      </div>
    </div>
  </div>`;
}

/** What uses an agent, so that it cannot be deleted. @param {import("../../core/api.js").ApiError | null} error */
export const usersOf = (error) =>
  error &&
  html`<div class="note fail" role="alert" tabindex="-1">
    ${shown(error.message)}
    <ul class="row wrap">
      ${error.details.map(({ path, message }) => {
        const page = path === "$.schemas" ? "schemas" : "agents";
        return html`<li><a href=${to`/${page}/${message}`}>${page.slice(0, -1)} ${shown(message)}</a></li>`;
      })}
    </ul>
  </div>`;

/** The agent as requests of the API. @param {string} name @param {Content} content */
export function copyAs(name, content) {
  const { capabilities: _, ...fields } = content;
  const url = location.origin + "/api/v1" + to`/agents/${name}`;
  const body = JSON.stringify(fields, null, 2);
  const examples = {
    curl: `curl -X PUT ${url} \\\n  -H "Authorization: Bearer $BYTEBREW_TOKEN" \\\n  -H "Content-Type: application/json" \\\n  --data-binary @- <<'JSON'\n${body}\nJSON`,
    Python: `import json, os, urllib.request\n\nagent = json.loads(r'''${body.replaceAll("'''", "\\u0027\\u0027\\u0027")}''')\nrequest = urllib.request.Request(\n    "${url}", json.dumps(agent).encode(), method="PUT",\n    headers={"Authorization": "Bearer " + os.environ["BYTEBREW_TOKEN"], "Content-Type": "application/json"},\n)\nprint(urllib.request.urlopen(request).read().decode())`,
    TypeScript: `const answer = await fetch("${url}", {\n  method: "PUT",\n  headers: { Authorization: \`Bearer \${process.env.BYTEBREW_TOKEN}\`, "Content-Type": "application/json" },\n  body: JSON.stringify(${body.replaceAll("\n", "\n  ")}),\n});\nconsole.log(await answer.json());`,
  };
  dialog(
    "Copy as",
    (close) => html`
      <h2 tabindex="-1" autofocus>Agent ${shown(name)} as a request</h2>
      <bb-examples .examples=${examples}></bb-examples>
      <div class="row"><button class="btn" type="button" @click=${() => close()}>Close</button></div>
    `,
    { kind: "box wide" },
  );
}
