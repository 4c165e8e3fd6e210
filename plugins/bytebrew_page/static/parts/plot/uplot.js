// uPlot in its small form, which is no module: a script of its own that leaves one name behind.
import { script } from "../../core/trusted.js";

/** @type {Promise<typeof import("../../vendor/uplot/dist/uPlot.iife.min.js").default> | null} */
let loading = null;

/** The library, loaded by whoever needs it first. */
export function load() {
  loading ??= new Promise((loaded, failed) => {
    const element = document.createElement("script");
    element.src = script("../../vendor/uplot/dist/uPlot.iife.min.js", import.meta.url);
    element.addEventListener("load", () => loaded(/** @type {any} */ (globalThis).uPlot));
    element.addEventListener("error", () => {
      loading = null;
      element.remove();
      failed(new Error("The library that draws plots could not be loaded"));
    });
    document.head.append(element);
  });
  return loading;
}
