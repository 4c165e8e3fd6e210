// A list as a file: what the API streams, one entry a line.
import { request } from "../../core/api.js";

/** @param {string} path @param {Record<string, string>} query @param {string} name @param {AbortSignal} signal */
export async function download(path, query, name, signal) {
  const response = await request("GET", path, { query, headers: { accept: "application/x-ndjson" }, signal });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
