// The dialog that makes a budget, changes it, or deletes it.
import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { api, newKey, part } from "../../core/api.js";
import { say } from "../../core/say.js";
import { dialog, sure } from "../../parts/dialog.js";
import { faults, field } from "../../parts/field.js";

/** @typedef {import("../../../api.ts").BudgetAnswer} Budget */

const PATHS = ["$.name", "$.per", "$.only", "$.usd", "$.tokens", "$.window", "$.soft"];
const OF = {
  all: "the whole engine",
  token: "each token",
  subject: "each caller",
  schema: "each schema",
  agent: "each agent",
};

/** Opens the dialog; whether something has changed. @param {Budget | null} budget @returns {Promise<boolean>} */
export async function edit(budget) {
  /** @type {Record<string, string>} */
  const form = {
    name: budget?.name ?? "",
    per: budget?.per ?? "all",
    only: budget?.only ?? "",
    unit: budget && budget.usd === null ? "tokens" : "usd",
    most: String(budget?.usd ?? budget?.tokens ?? ""),
    window: budget?.window ?? "day",
    soft: String(Math.round((budget?.soft ?? 0.8) * 100)),
  };
  const key = newKey();
  /** @type {any} */
  let error = null;
  let busy = false;
  const title = budget ? `Budget ${budget.name}` : "New budget";

  /** @param {(result?: string) => void} close @param {() => void} update @param {() => Promise<any>} request @param {string} words */
  const send = async (close, update, request, words) => {
    busy = true;
    update();
    try {
      await request();
      say(words);
      close("changed");
    } catch (refusal) {
      error = refusal;
    } finally {
      busy = false;
      update();
    }
  };

  const result = await dialog(title, (close, update) => {
    const wrong = faults(error, PATHS);
    const body = () => ({
      ...(budget ? {} : { name: form.name.trim() }),
      per: form.per,
      only: form.per === "all" ? "" : form.only.trim(),
      [form.unit]: form.most.trim() === "" ? null : Number(form.most),
      window: form.window,
      soft: Number(form.soft) / 100,
    });
    const save = (/** @type {Event} */ event) => {
      event.preventDefault();
      const request = budget
        ? () => api.patch(`/budgets/${part(budget.name)}`, body())
        : () => api.post("/budgets", body(), { headers: { "idempotency-key": key } });
      send(close, update, request, `Saved the budget ${form.name}`);
    };
    const remove = async () => {
      if (!budget || !(await sure(`Delete budget ${budget.name}`, html`<p>What it has counted goes with it.</p>`)))
        return;
      send(close, update, () => api.delete(`/budgets/${part(budget.name)}`), `Deleted the budget ${budget.name}`);
    };
    /** @param {string} name */
    const write = (name) => (/** @type {Event} */ event) => {
      form[name] = /** @type {any} */ (event.target).value;
      update();
    };
    /** @param {string} name @param {string} mode */
    const input =
      (name, mode) => (/** @type {string} */ id, /** @type {string} */ described, /** @type {boolean} */ invalid) =>
        html`<input
          id=${id}
          inputmode=${mode}
          autocomplete="off"
          aria-describedby=${described || nothing}
          aria-invalid=${invalid}
          .value=${form[name]}
          @input=${write(name)}
        />`;
    /** @param {string} name @param {Record<string, string>} choices */
    const select = (name, choices) => (/** @type {string} */ id, /** @type {string} */ described) =>
      html`<select id=${id} aria-describedby=${described || nothing} @change=${write(name)}>
        ${Object.entries(choices).map(([value, words]) => html`<option value=${value} ?selected=${form[name] === value}>${words}</option>`)}
      </select>`;
    const most = form.unit === "usd" ? "$.usd" : "$.tokens";
    return html`<form class="stack" @submit=${save}>
      <h2 tabindex="-1" autofocus>${title}</h2>
      ${wrong[""] ? html`<p class="note fail" role="alert">${wrong[""]}</p>` : ""}
      ${budget ? "" : field("Name", "$.name", { hint: "name", error: wrong["$.name"] }, input("name", "text"))}
      ${field("Caps what is spent by", "$.per", { hint: "per", error: wrong["$.per"] }, select("per", OF))}
      ${
        form.per === "all"
          ? ""
          : field(
              "Only this one",
              "$.only",
              { hint: "only: a name; empty for each", error: wrong["$.only"] },
              input("only", "text"),
            )
      }
      <div class="grid2">
        ${field("At most", most, { hint: form.unit, error: wrong[most] }, input("most", "decimal"))}
        ${field("Unit", "$.unit", {}, select("unit", { usd: "US dollars", tokens: "tokens" }))}
        ${field("In", "$.window", { hint: "window, of UTC", error: wrong["$.window"] }, select("window", { hour: "an hour", day: "a day", month: "a month" }))}
        ${field("Warns at", "$.soft", { hint: "soft, percent", error: wrong["$.soft"] }, input("soft", "numeric"))}
      </div>
      <div class="row wrap">
        <button class="btn first" type="submit" ?disabled=${busy}>${budget ? "Save" : "Make it"}</button>
        <button class="btn plain" type="button" @click=${() => close()}>Cancel</button>
        ${budget ? html`<button class="btn no" type="button" ?disabled=${busy} @click=${remove}>Delete budget ${budget.name}</button>` : ""}
      </div>
    </form>`;
  });
  return result === "changed";
}
