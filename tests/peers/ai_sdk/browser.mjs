// Serves page.jsx with a major of the AI SDK, opens it in a browser, and does what lines of JSON say: one answer each.
//   browser.mjs PAGE PORT MAJOR CHROMIUM
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { build } from "esbuild";
import { chromium } from "playwright-core";

const [, , page, port, major, executablePath] = process.argv;
const STYLE = `body { font: 15px sans-serif; max-width: 44em; margin: 2em auto } section { margin: .7em 0; padding: .1em 1em }
.user { background: #e8eef7; overflow-wrap: anywhere } .call { border: 1px solid #ccc; padding: .4em; margin: .4em 0 }
.error { color: #b00 } th { text-align: left; padding-right: 2em } input { width: 24em } details { color: #666 }`;
const bundle = await build({
  entryPoints: [page],
  bundle: true,
  write: false,
  format: "esm",
  jsx: "automatic",
  nodePaths: [`${process.cwd()}/node_modules`],
  alias: major === "6" ? { ai: "ai-6", "@ai-sdk/react": "@ai-sdk/react-3" } : {},
  define: { "process.env.NODE_ENV": '"production"' },
});
const html = `<!doctype html><meta charset="utf-8"><title>useChat</title><style>${STYLE}</style>
<div id="root"></div><script type="module" src="/page.js"></script>`;
createServer((request, response) => {
  const script = request.url === "/page.js";
  response.setHeader("content-type", script ? "text/javascript" : "text/html");
  response.end(script ? bundle.outputFiles[0].text : html);
}).listen(Number(port), "127.0.0.1");

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const tab = await browser.newPage({ viewport: { width: 900, height: 1000 } });
const faults = [];
tab.on("pageerror", (error) => faults.push(String(error)));
const acts = {
  open: (query) => tab.goto(`http://127.0.0.1:${port}/?${query}`),
  reload: () => tab.reload(),
  say: async (text) => {
    await tab.fill("input", text);
    await tab.click("text=Send");
  },
  click: (name) => tab.getByRole("button", { name, exact: true }).first().click(),
  until: (js) => tab.waitForFunction(js, undefined, { timeout: 20000 }),
  value: (js) => tab.evaluate(js),
  picture: (path) => tab.screenshot({ path, fullPage: true }),
  faults: () => faults,
};
console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const [act, argument] = JSON.parse(line);
  try {
    const value = await acts[act](argument);
    console.log(JSON.stringify({ value: ["value", "faults"].includes(act) ? value : null }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error), text: await tab.innerText("body").catch(() => "") }));
  }
}
await browser.close();
process.exit(0);
