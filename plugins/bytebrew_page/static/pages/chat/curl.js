// A message as a line for a shell; the token stands there as a variable.

/** @param {string} schema @param {string} session @param {string} message */
export function curl(schema, session, message) {
  const body = JSON.stringify({ ...(session ? { session_id: session } : {}), message });
  return `curl -N ${location.origin}/api/v1/schemas/${encodeURIComponent(schema)}/chat \\
  -H "Authorization: Bearer $BYTEBREW_TOKEN" -H "Content-Type: application/json" \\
  -d '${body.replaceAll("'", `'\\''`)}'`;
}
