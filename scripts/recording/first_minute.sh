#!/usr/bin/env bash
# The first minute with an engine, typed as a person would: `make recording` records it. PACE is seconds for a key.
# Runs in an empty folder, with bytebrew on the PATH and BYTEBREW_PORT free.
set -eu
pace=${PACE-0.035}
port=${BYTEBREW_PORT:-8443}
trap 'kill $! 2>/dev/null || true' EXIT

note() {
  printf '\e[90m# %s\e[0m\n' "$*"
  sleep "$(awk "BEGIN {print $pace * 25}")"
}

run() {
  local command=${1//8443/$port}
  printf '\e[32m$\e[0m '
  for ((at = 0; at < ${#command}; at++)); do
    printf %s "${command:at:1}"
    sleep "$pace"
  done
  echo
  eval "$command"
  sleep "$(awk "BEGIN {print $pace * 30}")"
}

# Starts an engine: the shell says nothing of the job, and goes on when the engine answers.
start() {
  run 'bytebrew serve &> engine.log &'
  disown
  curl -s -o /dev/null --retry 100 --retry-connrefused --retry-delay 0 --retry-max-time 30 "localhost:$port/api/v1/health"
}

note "one process, one file, and a demo model that needs no key"
start
run 'TOKEN=$(bytebrew session create)'
run 'curl -sN localhost:8443/api/v1/schemas/demo/chat -H "Authorization: Bearer $TOKEN" \
    -H "Content-Type: application/json" -d '\''{"message": "What is the current_time?"}'\'' | tee seen'
note "every event was in the file before it was sent: kill the engine"
run 'kill -9 $!'
start
note "and go on behind event 8, byte for byte"
SESSION=$(sed -n 's/.*"session_id":"\([^"]*\)".*/\1/p' seen)
run 'curl -sN "localhost:8443/api/v1/sessions/$SESSION/events" \
    -H "Authorization: Bearer $TOKEN" -H "Last-Event-ID: 8" | head -n 13'
