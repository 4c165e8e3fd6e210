// The icons of the page, each beside its word.
import { html, svg } from "../vendor/lit-html/lit-html.js";

const PATHS = {
  inbox: "M2 9h3.5l1 2h3l1-2H14M2 9l2-6h8l2 6v4H2z",
  chat: "M2.5 3h11v8h-6L4 13.5V11H2.5z",
  sessions: "M2 4h5M4 8h8M7 12h7",
  tasks: "M2.5 4l1.2 1.2L6 3M2.5 9.5l1.2 1.2L6 8.5M8.5 4.5H14M8.5 10H14",
  agents: "M8 2.5a2.5 2.5 0 1 1 0 5 2.5 2.5 0 0 1 0-5M3 13.5c.4-2.7 2.4-4 5-4s4.600 1.300 5 4",
  schemas: "M2 3h4v3H2zM10 2h4v3h-4zM10 10h4v3h-4zM6 4.500h2v7h2M8 4h2",
  models: "M8 2l5.500 3v6L8 14l-5.500-3V5zM2.500 5L8 8l5.500-3M8 8v6",
  tools: "M9.500 3.500a3.200 3.200 0 0 0-4 4L2 11l3 3 3.500-3.500a3.200 3.200 0 0 0 4-4l-2 2-2-2z",
  knowledge: "M3 2.500h8.500V13.500H3zM3 11h8.500M5.500 5h3.500",
  usage: "M2 13.500h12M4 11V7M8 11V3M12 11V8.500",
  keys: "M10.500 2.500a3 3 0 1 1-2.700 4.300L3 11.500V13.500h2.500V12H7v-1.500l1.500-1.500M11 5h.01",
  audit: "M8 2l5 2v4c0 3-2 5-5 6-3-1-5-3-5-6V4zM5.800 8l1.600 1.600L10.500 6.500",
  config: "M4 2h5.500L12 4.500V14H4zM6.500 8h3.500M6.500 10.500h3.500",
  settings: "M2 5h6M11 5h3M2 11h2M7 11h7M9.500 3.500v3M5.500 9.500v3",
  plugins: "M6 2v3M10 2v3M4 5h8v3a4 4 0 0 1-8 0zM8 12v2",
  find: "M7 2.500a4.500 4.500 0 1 1 0 9 4.500 4.500 0 0 1 0-9M10.500 10.500L14 14",
  menu: "M2 4h12M2 8h12M2 12h12",
  clip: "M11.500 7L7 11.500a2 2 0 0 1-3-3L9 3.500a3 3 0 0 1 4.500 4.500L8 13.500",
  stop: "M4.500 4.500h7v7h-7z",
  sun: "M8 5a3 3 0 1 1 0 6 3 3 0 0 1 0-6M8 1.500v1M8 13.500v1M1.500 8h1M13.500 8h1M3.500 3.500l.7.7M11.800 11.800l.7.7M12.500 3.500l-.7.7M4.200 11.800l-.7.7",
};

/** An icon; readers of the screen hear its word alone. @param {string} name */
export const icon = (name) =>
  html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
    ${svg`<path d=${PATHS[/** @type {keyof typeof PATHS} */ (name)] ?? ""}></path>`}
  </svg>`;
