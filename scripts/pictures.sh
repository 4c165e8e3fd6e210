#!/usr/bin/env bash
# Takes the pictures of the page in docs/images anew, from its tests, which show it full of work.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=.cache/pictures
mkdir -p "$folder"

declare -A pictures=(
  [inbox-light-1280]=inbox
  [chat-light-1280]=chat
  [chat-light-390]=phone
  [session-light-1280]=session
  [models-light-1280]=models
  [usage-dark-1280]=usage
)
test=tests/peers/page/test_pictures.py::test_a_page_full_of_work_fits_and_is_accessible
names=("${!pictures[@]}")
names=("${names[@]/%/]}")
BYTEBREW_SCREENSHOTS=$folder .venv/bin/pytest "${names[@]/#/$test[}"
for name in "${!pictures[@]}"; do
  mv "$folder/$name.png" "docs/images/page-${pictures[$name]}.png"
done
