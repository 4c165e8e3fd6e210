// Draws a plot with uPlot: loaded by the first plot of a page.

/** @typedef {import("../plot.js").Plot} Plot */

const FONT = "11px system-ui, sans-serif";

/** The next round number: 1, 2, 2.5, 4, 5 or 8 times a power of ten. @param {number} most */
function round(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return /** @type {number} */ ([1, 2, 2.5, 4, 5, 8, 10].find((one) => one * power >= most * 0.999) ?? 10) * power;
}

/** Colours as the page has them now, also those that differ by theme. @param {HTMLElement} room */
function colours(room) {
  const probe = document.createElement("i");
  room.append(probe);
  const style = getComputedStyle(probe);
  return {
    /** @param {string} token */
    of(token) {
      probe.style.color = `var(--${token})`;
      return style.color;
    },
    end: () => probe.remove(),
  };
}

/** The values of each series on top of those below it, the highest first. @param {Plot} data */
function stacked({ series, labels }) {
  const below = labels.map(() => 0);
  return series
    .map((one) => one.values.map((value, n) => (below[n] += value ?? 0)))
    .map((values) => values.map((value) => value || null))
    .reverse();
}

/** Values without neighbours, which a line alone would not show. @param {(number | null)[]} values */
const alone = (values) =>
  values.flatMap((value, n) =>
    value !== null && (values[n - 1] ?? null) === null && (values[n + 1] ?? null) === null ? [n] : [],
  );

/**
 * @param {typeof import("../../vendor/uplot/dist/uPlot.iife.min.js").default} uPlot the library
 * @param {HTMLElement} room
 * @param {Plot} data
 * @param {{ axis: number, label: number, point: (at: number) => void }} how
 */
export function draw(uPlot, room, data, { axis, label, point }) {
  const colour = colours(room);
  const { labels, lines } = data;
  const format = data.format ?? String;
  const rows = lines ? data.series.map((one) => one.values) : stacked(data);
  const tones = (lines ? data.series : [...data.series].reverse()).map((one) => colour.of(one.tone));
  const top = round(Math.max(...rows.flat().map((value) => value ?? 0), 1e-9));
  const ink = colour.of("ink-3");
  const grid = { stroke: colour.of("line"), width: 1 };
  const bars = /** @type {any} */ (uPlot.paths).bars({ size: [0.72, 40], gap: 0 });
  colour.end();
  const every = (/** @type {number} */ width) => Math.max(1, Math.ceil(labels.length / Math.max(1, width / label)));
  return new uPlot(
    {
      width: room.clientWidth,
      height: room.clientHeight,
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      padding: [6, 8, 0, 0],
      scales: { x: { time: false, range: [-0.5, labels.length - 0.5] }, y: { range: [0, top] } },
      axes: [
        {
          stroke: ink,
          font: FONT,
          size: 18,
          gap: 2,
          grid: { show: false },
          ticks: { show: false },
          splits: (plot) => labels.map((_, n) => n).filter((n) => n % every(plot.width - axis) === 0),
          values: (_, splits) => splits.map((n) => labels[n]),
        },
        {
          stroke: ink,
          font: FONT,
          size: axis,
          gap: 4,
          grid,
          ticks: { show: false },
          splits: () => [0, top / 2, top],
          values: (_, splits) => splits.map(format),
        },
      ],
      series: [
        {},
        ...rows.map((values, n) =>
          lines
            ? {
                stroke: tones[n],
                width: n ? 1.5 : 1.75,
                dash: n ? [3, 3] : [],
                points: { show: true, size: 4, fill: tones[n], filter: () => alone(values) },
              }
            : { stroke: tones[n], fill: tones[n], width: 0, paths: bars, points: { show: false } },
        ),
      ],
      hooks: { setCursor: [(plot) => point(plot.cursor.idx ?? -1)] },
    },
    [labels.map((_, n) => n), ...rows],
    room,
  );
}
