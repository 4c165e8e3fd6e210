// Where the agents of a schema stand in its graph: in layers from the entry, so that every arrow goes to the right.

/** @typedef {{ source: string, target: string }} Edge */
/** A place in a layer: an agent, or a bend of an arrow that passes. @typedef {{ name: string | null, layer: number, row: number }} Spot */

/** The layer of each agent: behind all that may ask it, where there is no circle. @param {string} entry @param {string[]} agents @param {Edge[]} edges */
function layersOf(entry, agents, edges) {
  const layers = new Map([[entry, 0]]);
  for (let turn = 0; turn < agents.length; turn++) {
    let moved = false;
    for (const { source, target } of edges) {
      const from = layers.get(source);
      if (from === undefined || target === entry || (layers.get(target) ?? -1) > from || from + 1 >= agents.length)
        continue;
      layers.set(target, from + 1);
      moved = true;
    }
    if (!moved) break;
  }
  for (const name of agents) if (!layers.has(name)) layers.set(name, 0);
  return layers;
}

/**
 * The places of the agents, and of each arrow the places that it passes.
 * @param {string} entry @param {string[]} agents @param {Edge[]} edges
 */
export function layout(entry, agents, edges) {
  const layers = layersOf(entry, agents, edges);
  /** @type {Spot[][]} */
  const grid = [];
  const add = (/** @type {string | null} */ name, /** @type {number} */ layer) => {
    const row = (grid[layer] ??= []);
    const spot = { name, layer, row: row.length };
    row.push(spot);
    return spot;
  };
  const ordered = [...agents].sort((a, b) => (layers.get(a) ?? 0) - (layers.get(b) ?? 0));
  const spots = new Map(ordered.map((name) => [name, add(name, layers.get(name) ?? 0)]));
  const arrows = edges
    .filter(({ source, target }) => spots.has(source) && spots.has(target))
    .map((edge) => {
      const [from, to] = [spots.get(edge.source), spots.get(edge.target)];
      if (!from || !to) return { edge, path: [] };
      const path = [from];
      for (let layer = from.layer + 1; layer < to.layer; layer++) path.push(add(null, layer));
      return { edge, path: [...path, to] };
    });
  center(grid);
  const height = Math.max(...grid.map((row) => row.length));
  return { spots: [...spots.values()], arrows, width: grid.length, height };
}

/** Layers with fewer places stand in the middle of the tallest. @param {Spot[][]} grid */
function center(grid) {
  const height = Math.max(...grid.map((row) => row.length));
  for (const row of grid) for (const spot of row) spot.row += (height - row.length) / 2;
}
