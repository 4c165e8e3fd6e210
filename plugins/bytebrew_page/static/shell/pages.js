// The pages: what they are called, what they need of the token, and the key behind `g`.

/**
 * A page: its module, and the scopes of which a token needs one.
 * @typedef {object} About
 * @property {string} words
 * @property {() => Promise<{ default: new () => import("../core/view.js").Page }>} load
 * @property {string[]} [scopes]
 * @property {string} [key]
 */

/** The pages by the first word of their address. @type {Record<string, About>} */
export const PAGES = {
  inbox: { words: "Inbox", load: () => import("../pages/inbox.js"), key: "i" },
  chat: { words: "Chat", load: () => import("../pages/chat.js"), scopes: ["chat"], key: "c" },
  sessions: { words: "Sessions", load: () => import("../pages/sessions.js"), scopes: ["chat"], key: "s" },
  tasks: { words: "Tasks", load: () => import("../pages/tasks.js"), scopes: ["tasks"], key: "t" },
  agents: { words: "Agents", load: () => import("../pages/agents.js"), scopes: ["agents:read"], key: "a" },
  schemas: { words: "Schemas", load: () => import("../pages/schemas.js"), scopes: ["schemas:read"] },
  models: { words: "Models", load: () => import("../pages/models.js"), scopes: ["models:read"], key: "m" },
  tools: { words: "Tools", load: () => import("../pages/tools.js"), scopes: ["agents:read", "mcp:read", "config"] },
  knowledge: { words: "Knowledge", load: () => import("../pages/knowledge.js"), scopes: ["agents:read"] },
  usage: { words: "Usage and budgets", load: () => import("../pages/usage.js"), scopes: ["admin"], key: "u" },
  keys: { words: "API keys", load: () => import("../pages/keys.js"), scopes: ["admin"] },
  audit: { words: "Audit", load: () => import("../pages/audit.js"), scopes: ["admin"] },
  config: { words: "Configuration", load: () => import("../pages/config.js"), scopes: ["config"] },
  settings: { words: "Settings", load: () => import("../pages/settings.js"), scopes: ["admin"] },
  plugins: { words: "Plugins and backup", load: () => import("../pages/plugins.js"), scopes: ["admin"] },
  start: { words: "First steps", load: () => import("../pages/start.js"), scopes: ["models:write"] },
};

/** The pages of the navigation, in groups. @type {[string, string[]][]} */
export const GROUPS = [
  ["", ["inbox", "chat", "sessions", "tasks"]],
  ["Build", ["agents", "schemas", "models", "tools", "knowledge"]],
  ["Oversight", ["usage", "keys", "audit"]],
  ["Engine", ["config", "settings", "plugins"]],
];

/** The address of a page. @param {string} name */
export const addressOf = (name) => (name === "inbox" ? "/" : `/${name}`);
