// The agents of a schema as a graph, and on a phone as a list.
import { html, svg } from "../../vendor/lit-html/lit-html.js";
import { to } from "../../core/router.js";
import { styled } from "../../core/style.js";
import { shown } from "../../core/text.js";
import { tag } from "../../parts/state.js";
import { layout } from "./layout.js";

/** @typedef {import("./layout.js").Edge} Edge */
/** @typedef {import("../../../api.ts").AgentRow} Row */

const WIDTH = 176;
const HEIGHT = 48;
const BETWEEN = 56;
const ROW = 64;

/** Who may ask whom: the relations, or without any whom the agents themselves may ask. @param {import("../../../api.ts").Schema} schema @param {Row[]} rows */
export function edgesOf(schema, rows) {
  if (schema.relations.length) return { agents: schema.agents, edges: /** @type {Edge[]} */ (schema.relations) };
  const agents = [schema.entry_agent];
  /** @type {Edge[]} */
  const edges = [];
  for (const source of agents)
    for (const target of rows.find((one) => one.name === source)?.can_spawn ?? []) {
      edges.push({ source, target });
      if (!agents.includes(target)) agents.push(target);
    }
  return { agents, edges };
}

/** @param {string} entry @param {string[]} agents @param {Edge[]} edges @param {Row[]} rows */
export function graph(entry, agents, edges, rows) {
  const { spots, arrows, width, height } = layout(entry, agents, edges);
  const [wide, high] = [width * WIDTH + (width - 1) * BETWEEN, height * ROW];
  const left = (/** @type {number} */ layer) => layer * (WIDTH + BETWEEN);
  const middle = (/** @type {number} */ row) => row * ROW + ROW / 2;
  const way = (/** @type {import("./layout.js").Spot[]} */ path) =>
    path
      .map((spot, n) => {
        if (n === 0) return `M${left(spot.layer) + WIDTH} ${middle(spot.row)}`;
        const bend = left(spot.layer) - BETWEEN / 2;
        const end = spot.name === null ? left(spot.layer) + WIDTH : left(spot.layer) - 6;
        return `H${bend}V${middle(spot.row)}H${end}`;
      })
      .join("");
  const asks = (/** @type {string} */ name) => edges.filter((one) => one.source === name).map((one) => one.target);
  return html`<div class="scroll graph" role="group" aria-label="Who may ask whom">
      <div ${styled({ "inline-size": `${wide}px`, "block-size": `${high}px` })}>
        <svg viewBox="0 0 ${wide} ${high}" width=${wide} height=${high} aria-hidden="true">
          ${arrows.map(({ path }) => svg`<path d=${way(path)}></path><path class="tip" d=${tip(path, left, middle)}></path>`)}
        </svg>
        ${spots.map(
          ({ name, layer, row }) =>
            html`<a
              class=${name === entry ? "node entry" : "node"}
              href=${to`/agents/${name ?? ""}`}
              ${styled({ left: `${left(layer)}px`, top: `${middle(row) - HEIGHT / 2}px` })}
              ><b class="clip">${shown(name)}</b><span class="meta clip">${about(name ?? "", rows)}</span
              ><span class="sr">${label(name === entry, asks(name ?? ""))}</span></a
            >`,
        )}
      </div>
    </div>
    <div class="tree">${branch(entry, edges, new Set())}</div>`;
}

/** @param {import("./layout.js").Spot[]} path @param {(layer: number) => number} left @param {(row: number) => number} middle */
function tip(path, left, middle) {
  const last = path.at(-1);
  if (!last) return "";
  const [x, y] = [left(last.layer), middle(last.row)];
  return `M${x - 7} ${y - 4}L${x - 1} ${y}L${x - 7} ${y + 4}z`;
}

/** @param {string} name @param {Row[]} rows */
function about(name, rows) {
  const row = rows.find((one) => one.name === name);
  if (!row) return rows.length ? "not there yet" : "";
  return `${row.model ?? "no model"} · ${row.tools_count} ${row.tools_count === 1 ? "tool" : "tools"}`;
}

/** @param {boolean} first @param {string[]} asks */
const label = (first, asks) =>
  `${first ? ", answers first" : ""}${asks.length ? `, may ask ${asks.join(" and ")}` : ""}`;

/** An agent and whom it may ask, each with its own once. @param {string} name @param {Edge[]} edges @param {Set<string>} seen @returns {unknown} */
function branch(name, edges, seen) {
  const again = seen.has(name);
  seen.add(name);
  const targets = again ? [] : edges.filter((one) => one.source === name).map((one) => one.target);
  return html`<ul>
    <li>
      <a href=${to`/agents/${name}`}>${shown(name)}</a>
      ${seen.size === 1 ? tag("answers first") : ""}${targets.map((target) => branch(target, edges, seen))}
    </li>
  </ul>`;
}
