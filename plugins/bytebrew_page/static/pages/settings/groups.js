// The groups of the settings, by the first word of their keys.

/** @typedef {{ id: string, title: string, words: string, prefixes: string[] }} Group */

/** @type {Group[]} */
export const GROUPS = [
  {
    id: "retention",
    title: "Retention",
    words: "How long the engine keeps what it stores. What is deleted is gone for good; 0 keeps it.",
    prefixes: ["retention", "versions"],
  },
  {
    id: "byok",
    title: "Own keys of callers",
    words:
      "Callers may bring their own key of a vendor by headers (X-Model-API-Key). It stays in memory, for one message.",
    prefixes: ["byok"],
  },
  {
    id: "access",
    title: "Pages and headers",
    words: "Which pages of other origins may call the engine, and which headers a chat may bring for tools.",
    prefixes: ["widget", "chat"],
  },
  { id: "log", title: "Log", words: "What the engine writes to its log.", prefixes: ["log"] },
  { id: "more", title: "More", words: "Settings of other plugins.", prefixes: [] },
  {
    id: "custom",
    title: "Your own",
    words: "Keys that begin with custom. hold any JSON value, for programs of yours that read them over the API.",
    prefixes: ["custom"],
  },
];

/** The group of a key. @param {string} key */
export const groupOf = (key) => {
  const [prefix] = key.split(".");
  return GROUPS.find((group) => group.prefixes.includes(prefix)) ?? GROUPS[GROUPS.length - 2];
};

/** Labels of known settings; any other has its key. @type {Record<string, string>} */
const LABELS = {
  "retention.sessions": "Delete sessions after",
  "retention.events": "Pack events after",
  "retention.idempotency": "Remember Idempotency-Keys for",
  "retention.versions": "Delete older versions after",
  "retention.audit": "Delete entries of the audit after",
  "retention.callbacks": "Delete deliveries of callbacks after",
  "versions.most": "Versions kept of each item",
  "byok.base_url": "Callers may name any public base URL",
  "byok.origins": "Origins of base URLs that callers may name",
  "chat.body_headers": "Headers that a chat may bring",
  "widget.origins": "Origins whose pages may call",
  "log.level": "Least severe record",
};

/** A setting in words. @param {string} key */
export const labelOf = (key) => LABELS[key] ?? (key.startsWith("byok.") ? `Own keys for ${key.slice(5)}` : key);
