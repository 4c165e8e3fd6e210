#!/usr/bin/env bash
# One message at the terminal, with bash 5, curl 7.76 and jq: BYTEBREW_TOKEN=... ./chat.sh SCHEMA MESSAGE
set -euo pipefail
url=${BYTEBREW_URL:-http://127.0.0.1:8443}/api/v1 schema=$1 id='' event='' data='' last='' code=0
random() { od -An -tx1 -N16 /dev/urandom | tr -d ' \n'; }
hex=$(random) session=${hex:0:8}-${hex:8:4}-4${hex:13:3}-a${hex:17:3}-${hex:20} key=$(random)
body=$(jq -cn --arg message "$2" --arg id "$session" '{message: $message, session_id: $id}')
api() { exec curl -sSN --fail-with-body --retry 9 --retry-connrefused -H 'Content-Type: application/json' \
  -K <(printf 'header = "Authorization: Bearer %s"' "$BYTEBREW_TOKEN") "$@"; } # no token in the list of processes
connect() { # again behind the last event that came; the key makes sure that the message counts once
  if [ "$last" ]; then api -H "Last-Event-ID: $last" "$url/sessions/$session/events"
  else api -H "Idempotency-Key: $key" -d "$body" "$url/schemas/$schema/chat"; fi &
  trap 'kill $!' TERM; wait $! || code=$?
  printf '\nexit: %s\n' "$code"; }
answer() { # what is no yes is a no
  printf '\n[%s] May it run? ' "$(jq -r '"\(.tool) \(.input)"' <<<"$data")"; read -r yes || yes=no
  jq -c --arg yes "$yes" '{confirmation_id, answers: [$yes]}' <<<"$data" |
    api -d @- "$url/sessions/$session/respond" >/dev/null || echo '[somebody else has answered]' >&2; }
show() { last=${id:-$last}; case $event in
  message_delta) jq -j .content <<<"$data" ;; message_restart) jq -j '"\n[again]\n\(.content)"' <<<"$data" ;;
  confirmation) answer ;; done) echo; exit ;;
  error) [ -z "$id" ] || { jq -r '"\n[\(.code): \(.message)]"' <<<"$data" >&2; exit 1; } ;; esac; }
trap 'kill $! 2>/dev/null || true' EXIT # a session's events go on behind the turn
until [[ $code = 22 || $code = 60 ]]; do # refused, as the line before says, or no certificate to trust
  while IFS= read -r line; do case $line in
    id:*) id=${line#id: } ;; event:*) event=${line#event: } ;; data:*) data=${line#data: } ;;
    '') [ -z "$data" ] || show <&4; id='' data='' ;; # an event is whole with the empty line behind it
    exit:*) code=${line#exit: } id='' data=''; sleep 1 ;; '{'*) echo "$line" >&2 ;; esac; done 4<&0 < <(connect)
done; exit 1
