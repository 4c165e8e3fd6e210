#!/usr/bin/env bash
# Sets up the peers of the bench, pinned, each in an environment of its own; quick where that is done.
set -euo pipefail
cd "$(dirname "$0")/../../.."
cache=.cache/bench-peers

# peer NAME PIN...: an environment with just these distributions, filled by the engine's own pip.
peer() {
  local name=$1
  shift
  [ "$(cat "$cache/$name/pins" 2>/dev/null)" = "$*" ] && return
  rm -rf "${cache:?}/$name"
  mkdir -p "$cache"
  "${PYTHON:-python3}" -m venv --without-pip "$cache/$name"
  # forbiddenfruit, which LangGraph's server needs, has no wheel
  .venv/bin/pip --python "$cache/$name/bin/python" install --quiet --disable-pip-version-check --no-deps \
    --only-binary :all: --no-binary forbiddenfruit "$@"
  echo "$*" >"$cache/$name/pins"
}

# Agno's AgentOS, with all that it needs.
peer agno agno==3.1.10 agnoctl==0.2.1 aiosqlite==0.22.1 annotated-doc==0.0.7 annotated-types==0.8.0 anyio==4.16.0 \
  attrs==26.1.0 certifi==2026.10.19.post1 click==8.5.1 croniter==7.0.0 docstring_parser==0.18.0 fastapi==0.165.0 \
  greenlet==3.5.6 h11==0.16.0 h2==4.4.1 hpack==4.2.0 httpcore==1.0.9 httpcore2==2.16.2 httptools==0.9.0 \
  httpx==0.28.1 httpx2==2.16.2 hyperframe==6.1.0 idna==3.20 jiter==0.19.0 jsonschema==4.26.0 \
  jsonschema-specifications==2025.9.1 markdown-it-py==4.3.0 mdurl==0.1.2 openai==3.57.0 \
  openinference-instrumentation==0.1.72 openinference-instrumentation-agno==1.0.15 \
  openinference-semantic-conventions==0.1.42 opentelemetry-api==1.45.2 opentelemetry-instrumentation==0.66b2 \
  opentelemetry-sdk==1.45.2 opentelemetry-semantic-conventions==0.66b2 packaging==26.4 prompt_toolkit==3.0.53 \
  pydantic==2.14.4 pydantic-settings==2.16.3 pydantic_core==2.50.5 Pygments==2.21.0 PyJWT==2.15.1 \
  python-dateutil==4.0.0 python-dotenv==1.2.4 python-multipart==0.0.34 pytz==2026.6 PyYAML==6.0.4 questionary==2.1.1 \
  referencing==0.37.0 rich==15.0.0 rpds-py==2026.9.1 shellingham==1.5.4 sniffio==1.3.1 SQLAlchemy==2.1.9 \
  starlette==1.10.0 truststore==0.10.5 typer==0.29.2 typing-inspection==0.4.5 typing_extensions==4.16.0 \
  tzdata==2026.6 uvicorn==0.54.0 uvloop==0.23.0 watchfiles==1.3.0 wcwidth==0.9.4 websockets==17.4 wrapt==2.5.2

# OpenAI's Agents SDK and FastAPI.
peer openai_agents openai-agents==0.24.0 aiosqlite==0.22.1 annotated-doc==0.0.7 annotated-types==0.8.0 anyio==4.16.0 \
  attrs==26.1.0 certifi==2026.10.19.post1 cffi==2.1.1 charset-normalizer==3.5.3 click==8.5.1 cryptography==50.0.2 \
  fastapi==0.165.0 griffelib==2.4.1 h11==0.16.0 httpcore2==2.16.2 httptools==0.9.0 httpx2==2.16.2 idna==3.20 \
  jiter==0.19.0 jsonschema==4.26.0 jsonschema-specifications==2025.9.1 mcp==2.3.0 mcp-types==2.3.0 openai==3.57.0 \
  opentelemetry-api==1.45.2 pycparser==3.12 pydantic==2.14.4 pydantic_core==2.50.5 PyJWT==2.15.1 \
  python-dotenv==1.2.4 python-multipart==0.0.34 PyYAML==6.0.4 referencing==0.37.0 requests==2.34.2 rpds-py==2026.9.1 \
  sniffio==1.3.1 SQLAlchemy==2.1.9 sse-starlette==3.7.0 starlette==1.10.0 truststore==0.10.5 \
  typing-inspection==0.4.5 typing_extensions==4.16.0 urllib3==2.8.0 uvicorn==0.54.0 uvloop==0.23.0 watchfiles==1.3.0 \
  websockets==16.1.1

# LangGraph, its checkpoints in SQLite, and FastAPI.
peer langgraph langgraph==1.2.24 aiosqlite==0.22.1 annotated-doc==0.0.7 annotated-types==0.8.0 anyio==4.16.0 \
  certifi==2026.10.19.post1 charset-normalizer==3.5.3 click==8.5.1 distro==1.9.0 fastapi==0.165.0 h11==0.16.0 \
  httpcore==1.0.9 httpcore2==2.16.2 httptools==0.9.0 httpx==0.28.1 httpx2==2.16.2 idna==3.20 jiter==0.19.0 \
  jsonpatch==1.48 jsonpointer==3.12 langchain-core==1.8.3 langchain-openai==1.7.4 langchain-protocol==0.0.20 \
  langgraph-checkpoint==4.3.2 langgraph-checkpoint-sqlite==3.1.2 langgraph-prebuilt==1.1.3 langgraph-sdk==0.4.14 \
  langsmith==0.15.1 openai==3.57.0 opentelemetry-api==1.45.2 orjson==3.13.0 ormsgpack==1.13.1 packaging==26.4 \
  pydantic==2.14.4 pydantic_core==2.50.5 python-dotenv==1.2.4 PyYAML==6.0.4 regex==2026.11.19 requests==2.34.2 \
  requests-toolbelt==1.0.0 sniffio==1.3.1 sqlite-vec==0.1.9 starlette==1.10.0 tenacity==9.2.1 tiktoken==0.14.0 \
  truststore==0.10.5 typing-inspection==0.4.5 typing_extensions==4.16.0 urllib3==2.8.0 uuid_utils==0.19.0 \
  uvicorn==0.54.0 uvloop==0.23.0 watchfiles==1.3.0 websockets==17.4 xxhash==4.1.0 zstandard==0.25.0

# LangGraph's server as `langgraph dev` runs it, which needs no licence.
peer langgraph_dev langgraph-api==0.16.7 annotated-types==0.8.0 anyio==4.16.0 blockbuster==1.5.29 \
  certifi==2026.10.19.post1 cffi==2.1.1 charset-normalizer==3.5.3 click==8.5.1 cloudpickle==3.1.3 croniter==7.0.0 \
  cryptography==50.0.2 distro==1.9.0 forbiddenfruit==0.1.4 googleapis-common-protos==1.76.0 grpcio==1.81.2 \
  grpcio-health-checking==1.81.1 grpcio-tools==1.81.1 h11==0.16.0 httpcore==1.0.9 httpcore2==2.16.2 httptools==0.9.0 \
  httpx==0.28.1 httpx2==2.16.2 idna==3.20 jiter==0.19.0 jsonpatch==1.48 jsonpointer==3.12 jsonschema_rs==0.44.1 \
  langchain-core==1.8.3 langchain-openai==1.7.4 langchain-protocol==0.0.20 langgraph==1.2.24 \
  langgraph-checkpoint==4.3.2 langgraph-cli==0.4.40 langgraph-prebuilt==1.1.3 langgraph-runtime-inmem==0.36.7 \
  langgraph-sdk==0.4.14 langsmith==0.15.1 openai==3.57.0 opentelemetry-api==1.45.2 \
  opentelemetry-exporter-http-transport==0.66b2 opentelemetry-exporter-otlp-common==0.66b2 \
  opentelemetry-exporter-otlp-proto-common==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2 \
  opentelemetry-exporter-prometheus==0.66b2 opentelemetry-proto==1.45.2 opentelemetry-sdk==1.45.2 \
  opentelemetry-semantic-conventions==0.66b2 orjson==3.13.0 ormsgpack==1.13.1 packaging==26.4 pathspec==1.1.1 \
  prometheus_client==0.26.0 protobuf==6.33.6 pycparser==3.12 pydantic==2.14.4 pydantic_core==2.50.5 PyJWT==2.15.1 \
  python-dateutil==4.0.0 python-dotenv==1.2.4 PyYAML==6.0.4 regex==2026.11.19 requests==2.34.2 \
  requests-toolbelt==1.0.0 setuptools==84.2.1 sniffio==1.3.1 sse-starlette==3.7.0 starlette==1.10.0 structlog==25.5.0 tenacity==9.2.1 \
  tiktoken==0.14.0 truststore==0.10.5 typing-inspection==0.4.5 typing_extensions==4.16.0 tzdata==2026.6 \
  urllib3==2.8.0 uuid_utils==0.19.0 uvicorn==0.54.0 uvloop==0.23.0 watchfiles==1.3.0 websockets==17.4 xxhash==4.1.0 \
  zstandard==0.25.0
