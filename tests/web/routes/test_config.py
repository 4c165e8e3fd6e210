"""The configuration over REST: export, import, reload."""

import asyncio
import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import bytebrew_mcp
import httpx
import pytest
from msgspec import Struct

from bytebrew import Engine
from bytebrew.base.errors import InvalidRequest
from bytebrew.contract.configuration.config_section import ConfigSection
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.messages import ToolCall
from bytebrew.contract.tool import tool
from bytebrew.store.configuration import models
from bytebrew.testing import ScriptedProvider, chat, plugin, providing, scripted_schema, served_engine
from tests.tables import check_refusal, token_with

ROOT = Path(__file__).parents[3]
URL = "/api/v1/config"
YAML = {"content-type": "application/x-yaml"}
EMPTY = {"BYTEBREW_DISABLED_PLUGINS": "demo"}
INSTALLED = {point.name for point in entry_points(group="bytebrew")}
MCP = [] if "mcp" in INSTALLED else [("mcp", bytebrew_mcp)]

DOCS_FORM = """
models:
  glm-5:
    provider: openai_compatible
    model: glm-5
    base_url: https://api.example.com/v1
    api_key: ${GLM_KEY}
  azure:
    provider: azure_openai
    model_name: gpt
    base_url: https://x.example
    api_key: ${AZURE_KEY}
    api_version: 2024-10-21
agents:
  sales-agent:
    model: glm-5
    system: You sell for ${SHOP:-a shop}.
    tools: [get_stock, manage_tasks]
    mcp_servers: [crm-api]
    confirm_before: [get_stock]
    knowledge: "./docs/"
  writer: {}
tools:
  get_stock:
    type: http
    method: GET
    url: "${ERP}/stock/{{sku}}"
    description: Current stock of one item
    params: {unit: "pcs"}
    auth: {type: header, name: X-Key, value: "${ERP_KEY}"}
    confirmation_required: false
mcp_servers:
  crm-api: {command: /opt/none/crm, args: [-y, crm-mcp], env: {CRM_KEY: "${CRM_KEY}"}}
settings:
  byok: {enabled: true, allowed_providers: [anthropic]}
triggers:
  nightly: {cron: "0 3 * * *", agent: writer, message: Write}
"""
EXAMPLES_FORM = """
models:
  providers:
    - name: "default-llm"
      type: "openai-compatible"
      base_url: "${LLM_BASE_URL}"
      model: "${LLM_MODEL:-small}"
      api_key: "${LLM_API_KEY}"
byok:
  enabled: true
  allowed_providers:
    - openai_compatible
agents:
  - name: "supervisor"
    model: "default-llm"
    system_prompt: |
      You route requests.
      Be brief.
    tools:
      builtin: [ask_user]
      custom:
        - name: get_rate
          endpoint: GET https://rates.example/now
          params: [{name: currency, type: string, description: which, required: true}]
          auth: {type: bearer, token_env: RATES_TOKEN}
      mcp_servers:
        company-data: {type: "stdio", command: "/opt/none/mcp", tools: [get_customer]}
    can_spawn: ["hr"]
    escalation: {triggers: ["human"], action: transfer_to_human}
  - name: "hr"
    model: "default-llm"
    lifecycle: "spawn"
    tools:
      mcp_servers:
        company-data: {type: "stdio", command: "/opt/none/mcp", tools: [get_leave]}
"""
EXPORT_FORM = """
# exported by the original
agents:
  - name: sales-agent
    system_prompt: You sell laptops.
    model_name: glm-5
    max_steps: 50
    temperature: 0.2
    confirm_before: [create_order]
    tools: [manage_tasks]
    can_spawn: [researcher]
    mcp_servers: [crm-api]
models:
  - name: glm-5
    type: openai_compatible
    base_url: https://api.example.com/v1
    model_name: glm-5
mcp_servers:
  - name: crm-api
    type: stdio
    command: /opt/none/npx
    args: [-y, crm-mcp]
    env_vars: {CRM_KEY: "${CRM_KEY}"}
    forward_headers: [X-Org-Id]
"""
OURS = (ROOT / "examples/configs/shop.yaml").read_text()


async def imported(client: httpx.AsyncClient, text: str, query: str = "", **headers: str) -> dict[str, Any]:
    answer = await client.post(f"{URL}/import{query}", content=text.encode(), headers=YAML | headers)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


class Section(ConfigSection):
    """Has no items and takes any."""

    def export(self, conn: Any, engine: Engine) -> dict[str, Any]:
        return {}

    def put(self, conn: Any, engine: Engine, actor: Any, name: str, given: Any) -> None: ...
    def delete(self, conn: Any, engine: Engine, name: str) -> None: ...


async def refused(client: httpx.AsyncClient, text: str, status: int = 400, query: str = "", **headers: str) -> Any:
    answer = await client.post(f"{URL}/import{query}", content=text.encode(), headers=YAML | headers)
    assert answer.status_code == status, answer.text
    return check_refusal(answer)


async def exported(client: httpx.AsyncClient) -> str:
    answer = await client.get(f"{URL}/export")
    assert answer.status_code == 200
    return answer.text


def actions(answer: dict[str, Any]) -> dict[str, str]:
    return {f"{one['section']}.{one['name']}": one["action"] for one in answer["changes"]}


async def test_the_answers_are_the_documented_ones() -> None:
    async with served_engine() as (_, client):
        answer = await client.get(f"{URL}/export")
        assert answer.headers["content-type"] == "application/x-yaml"
        assert answer.headers["content-disposition"] == "attachment; filename=bytebrew-config.yaml"
        assert answer.text.startswith("# The configuration of a ByteBrew engine.")
        body = await imported(client, "agents: {a: {}, b: {}}\nmodels: {m: {type: ollama, model_name: x}}")
        assert (body["status"], body["agents_imported"], body["models_imported"]) == ("ok", 2, 1)
        assert (body["tools_imported"], body["schemas_imported"], body["settings_imported"]) == (0, 0, 0)
        reloaded = await client.post(f"{URL}/reload")
        assert reloaded.json() == {"status": "ok", "agents_loaded": 3, "models_loaded": 2}


@pytest.mark.parametrize(
    "text", [DOCS_FORM, EXAMPLES_FORM, EXPORT_FORM, OURS], ids=["docs", "examples", "export", "ours"]
)
async def test_each_dialect_comes_in_and_goes_round_in_equal_bytes(text: str) -> None:
    async with served_engine(*MCP, settings=EMPTY) as (_, first), served_engine(*MCP, settings=EMPTY) as (_, second):
        made = await imported(first, text)
        assert set(actions(made).values()) == {"create"}
        assert not [one for one in made["warnings"] if one["line"] < 1]
        once = await exported(first)
        await imported(second, once)
        assert await exported(second) == once
        assert set(actions(await imported(first, text)).values()) == {"unchanged"}
        assert set(actions(await imported(second, once, "?mode=replace")).values()) == {"unchanged"}


async def test_the_docs_form_means_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where there is no folder `docs`
    async with served_engine(*MCP, settings=EMPTY) as (_, client):
        answer = await imported(client, DOCS_FORM)
        counts = {key: value for key, value in answer.items() if key.endswith("_imported") and value}
        assert counts == {
            "agents_imported": 2,
            "models_imported": 2,
            "tools_imported": 1,
            "mcp_servers_imported": 1,
            "knowledge_imported": 1,
            "settings_imported": 1,
        }
        warned = {one["path"]: one["message"] for one in answer["warnings"]}
        assert "was left out" in warned["$.triggers"]
        assert "docs cannot be read" in warned["$.knowledge.sales-agent"]
        agent = (await client.get("/api/v1/agents/sales-agent")).json()
        assert (agent["model"], agent["system"]) == ("glm-5", "You sell for a shop.")
        assert (agent["tools"], agent["mcp_servers"]) == (["get_stock", "manage_tasks"], ["crm-api"])
        model = (await client.get("/api/v1/models/azure")).json()
        assert (model["type"], model["api_version"], model["has_api_key"]) == ("azure_openai", "2024-10-21", True)
        assert (await client.get("/api/v1/settings/byok.anthropic")).json()["value"] is True
        text = await exported(client)
        assert "url: ${ERP}/stock/{{sku}}" in text or 'url: "${ERP}/stock/{{sku}}"' in text
        assert "value: ${ERP_KEY}" in text
        assert "CRM_KEY: ${CRM_KEY}" in text


async def test_the_examples_form_means_what_it_says() -> None:
    async with served_engine(*MCP, settings=EMPTY) as (_, client):
        await imported(client, EXAMPLES_FORM)
        agent = (await client.get("/api/v1/agents/supervisor")).json()
        assert agent["system"] == "You route requests.\nBe brief.\n"
        assert (agent["tools"], agent["mcp_servers"]) == (["ask_user", "get_rate"], ["company-data"])
        assert (await client.get("/api/v1/models/default-llm")).json()["type"] == "openai_compatible"
        server = (await client.get("/api/v1/mcp-servers/company-data")).json()
        assert server["agent_tools"] == {"supervisor": ["get_customer"], "hr": ["get_leave"]}
        assert (await client.get("/api/v1/settings/byok.openai_compatible")).json()["value"] is True


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        (EXAMPLES_FORM, {"$.agents.supervisor.tools.mcp_servers", "$.agents.hr.tools.mcp_servers"}),
        (EXPORT_FORM, {"$.agents.sales-agent.mcp_servers", "$.mcp_servers"}),
        ("{agents: {a: {mcp_servers: [crm]}, b: {mcp_servers: []}}}", {"$.agents.a.mcp_servers"}),
    ],
    ids=("of the examples", "of an export of the original", "our own"),
)
async def test_servers_are_left_out_with_a_warning_where_no_plugin_reads_them(text: str, paths: set[str]) -> None:
    async with served_engine(settings={"BYTEBREW_DISABLED_PLUGINS": "demo,mcp"}) as (_, client):
        warnings = (await imported(client, text))["warnings"]
        assert {one["path"] for one in warnings if "nothing here reads mcp_servers" in one["message"]} == paths


MISTAKES = """\
models:
  gpt:
    typ: openai_compatible
    model_name: gpt-5
  gpt:
    type: ollama
    model_name: x
  claude:
    type: antropic
    model_name: sonnet
agents:
  Sales Agent: {}
  clerk:
    sytem: You sell.
    max_steps: 900
    temperature: hot
    tools: [a, 5]
  clerk2: [1]
schemas:
  shop:
    entry_agent: nobody
    relations:
      - {source: clerk, targt: gone}
settings:
  byok.antropic: true
shemas: {}
"""


async def test_every_mistake_is_told_with_its_place_and_nothing_is_changed() -> None:
    async with served_engine() as (_, client):
        before = await exported(client)
        said = await refused(client, MISTAKES)
        found = [(one["line"], one["column"], one["path"]) for one in said["details"]]
        assert found == [
            (3, 5, "$.models.gpt.typ"),
            (5, 3, "$"),
            (9, 11, "$.models.claude.type"),
            (12, 3, "$.agents.Sales Agent"),
            (14, 5, "$.agents.clerk.sytem"),
            (15, 16, "$.agents.clerk.max_steps"),
            (16, 18, "$.agents.clerk.temperature"),
            (17, 16, "$.agents.clerk.tools[1]"),
            (18, 11, "$.agents.clerk2"),
            (21, 18, "$.schemas.shop.entry_agent"),
            (23, 25, "$.schemas.shop.relations[0].targt"),
            (25, 3, "$.settings.byok.antropic"),
            (26, 1, "$.shemas"),
        ]
        words = {one["path"]: one["message"] for one in said["details"]}
        assert words["$.models.gpt.typ"].endswith("did you mean 'type'?")
        assert words["$.models.claude.type"].endswith("did you mean 'anthropic'?")
        assert words["$.agents.clerk.sytem"].endswith("did you mean 'system'?")
        assert words["$.schemas.shop.relations[0].targt"].endswith("did you mean 'target'?")
        assert words["$.settings.byok.antropic"].endswith("did you mean 'byok.anthropic'?")
        assert words["$.shemas"].endswith("did you mean 'schemas'?")
        assert said["message"].startswith("line 3, column 5: $.models.gpt.typ: ")
        assert said["message"].endswith("(and 12 more)")
        assert await exported(client) == before


async def test_places_lie_within_mappings_whose_keys_may_have_dots() -> None:
    text = """\
rate_limits:
  r:
    key_header: X-Org
    default_tier: free
    tiers:
      free: {requests: 10, window: 5 parsecs}
      v.i.p: {requests: 0}
      plus:
        requst: 3
tools:
  t:
    url: https://a.example
    parameters: {a: {type: string}, b: {type: strin}}
    headers: {X-Key: ["1"]}
"""
    async with served_engine() as (_, client):
        found = [(one["line"], one["column"], one["path"]) for one in (await refused(client, text))["details"]]
        assert [one for one in found if "tools" in one[2]] == [
            (13, 47, "$.tools.t.parameters.b.type"),
            (14, 22, "$.tools.t.headers.X-Key"),
        ]
        assert [one for one in found if "tiers" in one[2]] == [
            (6, 36, "$.rate_limits.r.tiers.free.window"),
            (7, 25, "$.rate_limits.r.tiers.v.i.p.requests"),
            (9, 9, "$.rate_limits.r.tiers.plus.requst"),
        ]


async def test_an_item_that_fails_is_no_excuse_for_itself() -> None:
    text = """\
agents: {a: {}, b: {}}
schemas: {s: {entry_agent: b}}
schedules:
  a: {cron: "0 9 * * *", agent: a, schema: s}
  c: {cron: "0 9 * * *", agent: a, schema: s}
"""
    async with served_engine() as (_, client):
        found = [(one["line"], one["path"]) for one in (await refused(client, text))["details"]]
        assert found == [(4, "$.schedules.a.agent"), (5, "$.schedules.c.agent")]
        assert (await client.get("/api/v1/agents/a")).status_code == 404


async def test_what_follows_from_a_problem_is_not_told_beside_it() -> None:
    text = """\
agents:
  a: {max_steps: 900}
  b: {capabilities: [{type: memory}, {type: memory}]}
schemas:
  s: {entry_agent: a, relations: [{source: a, target: b}]}
  t: {entry_agent: b}
webhooks:
  w: {agent: b, schema: t, secret: a-secret-of-some-length}
rate_limits:
  r: {key_header: X-Org, tiers: {a: {requests: 0}}}
"""
    async with served_engine() as (_, client):
        found = [(one["line"], one["path"]) for one in (await refused(client, text))["details"]]
        assert found == [
            (2, "$.agents.a.max_steps"),
            (3, "$.agents.b.capabilities[1]"),
            (10, "$.rate_limits.r.tiers.a.requests"),
        ]


async def test_a_refused_import_does_its_work_once() -> None:
    seen: list[str] = []

    class Refusing(Section):
        key = "refused"
        item = None

        def put(self, conn: Any, engine: Engine, actor: Any, name: str, given: Any) -> None:
            seen.append(name)
            raise InvalidRequest("No")

    async with served_engine(plugin(register_config_sections=lambda register: register(Refusing()))) as (_, client):
        await refused(client, "refused: {a: 1, b: 2}")
        assert seen == ["a", "b"]


async def test_a_number_that_no_column_takes_is_refused() -> None:
    class Die(Struct, frozen=True, kw_only=True):
        name: str
        sides: int

    class Dice(Section):
        key = "dice"
        item = Die

        def put(self, conn: Any, engine: Engine, actor: Any, name: str, given: Any) -> None:
            conn.execute("select ?", (given["sides"],))

    async with served_engine(plugin(register_config_sections=lambda register: register(Dice()))) as (_, client):
        said = await refused(client, f"agents: {{a: {{}}}}\ndice: {{d: {{sides: {2**63}}}}}")
        assert [(one["line"], one["path"]) for one in said["details"]] == [(2, "$.dice.d")]
        await imported(client, f"dice: {{d: {{sides: {2**63 - 1}}}}}")


async def test_what_is_no_yaml_too_large_or_of_another_kind_is_refused() -> None:
    async with served_engine(settings={"BYTEBREW_MAX_BODY_BYTES": str(1 << 20)}) as (_, client):
        said = await refused(client, "agents: {\n")
        assert (said["details"][0]["line"], said["details"][0]["path"]) == (2, "$")
        await refused(client, "")
        assert (await refused(client, "a: b\n" * 2_000_000, 413))["error"] == "payload_too_large"
        assert (await refused(client, "a: b", 415, **{"content-type": "text/plain"}))["error"]
        assert (await refused(client, "- a"))["details"][0]["message"] == "a configuration is a mapping of sections"
        for query in ("?mode=merg", "?dry_run=yes", "?dryrun=true"):
            await refused(client, "agents: {}", query=query)
        await refused(client, "a: !!python/object/apply:os.system [id]")
        for kind in ("application/json", "text/yaml", "application/yaml; charset=utf-8"):
            answer = await client.post(f"{URL}/import", content=b'{"agents": {}}', headers={"content-type": kind})
            assert answer.status_code == 200


async def test_an_import_merges_by_name_and_leaves_the_rest() -> None:
    async with served_engine() as (_, client):
        before = (await client.get("/api/v1/agents/demo")).json()
        answer = await imported(client, "agents: {demo: {max_steps: 7}, new: {system: Hi}}")
        assert actions(answer) == {"agents.demo": "update", "agents.new": "create"}
        after = (await client.get("/api/v1/agents/demo")).json()
        changed = {"max_steps": 7, "updated_at": after["updated_at"]}
        assert after == before | changed
        assert (await client.get("/api/v1/models/demo")).status_code == 200


async def test_a_dry_run_tells_the_plan_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEW_KEY", "sk-new")
    async with served_engine() as (_, client):
        model = {"name": "m", "type": "anthropic", "model_name": "x", "api_key": "sk-old"}
        assert (await client.post("/api/v1/models", json=model)).status_code == 201
        before = await exported(client)
        text = "models: {m: {type: anthropic, model_name: x, api_key: '${NEW_KEY}', is_default: true}, "
        text += "n: {type: ollama, model_name: y}}\nagents: {other: {}}\nschemas: {}"
        answer = await imported(client, text, "?dry_run=true&mode=replace")
        assert actions(answer) == {
            "models.m": "update",
            "models.n": "create",
            "models.demo": "delete",
            "agents.other": "create",
            "agents.demo": "delete",
            "schemas.demo": "delete",
        }
        assert "sk-" not in json.dumps(answer)
        assert await exported(client) == before


async def test_a_plan_names_the_fields_with_credentials_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEW_KEY", "sk-new")
    async with served_engine() as (_, client):
        model = {"name": "m", "type": "anthropic", "model_name": "x", "api_key": "sk-old"}
        await client.post("/api/v1/models", json=model)
        text = "models: {m: {api_key: '${NEW_KEY}', model_name: y}}\nagents: {demo: {max_steps: 7}, b: {}}"
        answer = await imported(client, text, "?dry_run=true")
        assert answer["dry_run"] is True
        assert answer["changes"] == [
            {
                "section": "models",
                "name": "m",
                "action": "update",
                "fields": [
                    {"field": "model_name", "before": "x", "after": "y"},
                    {"field": "api_key", "before": "***", "after": "***"},
                ],
            },
            {
                "section": "agents",
                "name": "demo",
                "action": "update",
                "fields": [{"field": "max_steps", "before": 50, "after": 7}],
            },
            {"section": "agents", "name": "b", "action": "create", "fields": []},
        ]
        assert (await client.get("/api/v1/agents/b")).status_code == 404
        assert "model_name: x" in await exported(client)


async def test_replace_prunes_the_sections_that_the_file_has_and_resets_fields() -> None:
    async with served_engine() as (_, client):
        await imported(client, "agents: {a: {max_steps: 9, system: Hi}, b: {}}\nsettings: {custom.x: 1, custom.y: 2}")
        text = "agents: {demo: {}, a: {system: Hi}}\nsettings: {custom.y: 2}"
        answer = await imported(client, text, "?mode=replace")
        assert actions(answer)["agents.b"] == "delete"
        assert actions(answer)["settings.custom.x"] == "delete"
        assert [one["name"] for one in (await client.get("/api/v1/agents")).json()] == ["a", "demo"]
        agent = (await client.get("/api/v1/agents/a")).json()
        assert (agent["max_steps"], agent["system"]) == (50, "Hi")
        assert (await client.get("/api/v1/schemas/demo")).status_code == 200


async def test_what_is_removed_together_may_refer_to_each_other() -> None:
    text = """
models:
  m: {type: ollama, model_name: x}
  n: {type: ollama, model_name: x, fallback: [o]}
  o: {type: ollama, model_name: x, fallback: [n]}
agents: {a: {can_spawn: [b]}, b: {can_spawn: [c]}, c: {can_spawn: [b, c]}, d: {}}
"""
    async with served_engine(settings=EMPTY) as (_, client):
        await imported(client, text)
        kept = "models: {m: {type: ollama, model_name: x}}\nagents: {d: {}"
        said = await refused(client, f"{kept}, a: {{can_spawn: [b]}}}}", query="?mode=replace")
        assert [one["path"] for one in said["details"]] == ["$.agents.b"]
        await imported(client, f"{kept}}}", "?mode=replace")
        assert [one["name"] for one in (await client.get("/api/v1/agents")).json()] == ["d"]
        assert [one["name"] for one in (await client.get("/api/v1/models")).json()] == ["m"]


async def test_a_replace_that_changes_nothing_touches_nothing() -> None:
    text = "models: {m: {type: ollama, model_name: x}, n: {type: ollama, model_name: y}}\nagents: {a: {}}"
    async with served_engine(settings=EMPTY) as (_, client):
        await imported(client, text)
        before = [(await client.get(f"/api/v1/{path}")).json() for path in ("models/m", "models/n", "agents/a")]
        await imported(client, text, "?mode=replace")
        after = [(await client.get(f"/api/v1/{path}")).json() for path in ("models/m", "models/n", "agents/a")]
        assert after == before


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("settings: {custom.x: {a: 1, b: 2}}", "settings: {custom.x: {a: 1}}"),
        ("settings: {custom.x: {a: 1}}", "settings: {custom.x: {}}"),
        ("settings: {custom.x: 1}", "settings: {custom.x: true}"),
        ("settings: {custom.x: [0]}", "settings: {custom.x: [false]}"),
        (
            "tools: {t: {url: 'https://a.example', params: {debug: 1}}}",
            "tools: {t: {url: 'https://a.example', params: {debug: true}}}",
        ),
    ],
)
@pytest.mark.parametrize("mode", ["merge", "replace"])
async def test_values_that_differ_are_not_taken_for_equal(first: str, second: str, mode: str) -> None:
    async with served_engine(settings=EMPTY) as (_, client):
        await imported(client, first)
        [change] = (await imported(client, second, f"?mode={mode}"))["changes"]
        assert (change["action"], len(change["fields"])) == ("update", 1)
        [again] = (await imported(client, second, f"?mode={mode}"))["changes"]
        assert (again["action"], again["fields"]) == ("unchanged", [])


async def test_an_import_that_changes_nothing_leaves_agents_their_capabilities() -> None:
    text = "agents: {a: {capabilities: [{type: memory}]}, b: {capabilities: [{type: knowledge, config: {top_k: 3}}]}}"
    async with served_engine(settings=EMPTY) as (_, client):
        await imported(client, text)
        before = [(await client.get(f"/api/v1/agents/{name}")).json() for name in "ab"]
        for mode in ("merge", "replace"):
            assert set(actions(await imported(client, text, f"?mode={mode}")).values()) == {"unchanged"}
        assert [(await client.get(f"/api/v1/agents/{name}")).json() for name in "ab"] == before


async def test_of_two_default_models_in_a_file_the_second_is_refused() -> None:
    text = "models:\n" + "".join(
        f"  {name}: {{type: ollama, model_name: x, is_default: {default}}}\n"
        for name, default in (("a", "false"), ("b", "true"), ("c", "true"))
    )
    async with served_engine(settings=EMPTY) as (_, client):
        [fault] = (await refused(client, text))["details"]
        assert (fault["path"], fault["line"]) == ("$.models.c.is_default", 4)
        assert "'b' in line 3 is the default one already" in fault["message"]
        await imported(client, text.replace("is_default: true}", "is_default: false}", 1))
        assert "is_default: true" in (await exported(client)).partition("  c:")[2]


async def test_a_schema_without_an_entry_agent_has_that_of_its_first_relation() -> None:
    async with served_engine() as (_, client):
        for source, target, mode in (("a", "b", "merge"), ("a", "b", "replace"), ("b", "a", "replace")):
            schema = f"{{relations: [{{source: {source}, target: {target}}}]}}"
            await imported(
                client, f"agents: {{a: {{}}, b: {{}}, demo: {{}}}}\nschemas: {{s: {schema}}}", f"?mode={mode}"
            )
            assert (await client.get("/api/v1/schemas/s")).json()["entry_agent"] == source
        await imported(client, "schemas: {s: {description: Hi}}", "?mode=replace")
        found = (await client.get("/api/v1/schemas/s")).json()
        assert (found["entry_agent"], found["description"], found["relations"]) == ("b", "Hi", [])


async def test_replace_does_not_remove_what_is_in_use() -> None:
    async with served_engine() as (_, client):
        before = await exported(client)
        said = await refused(client, "models:\n  m: {type: ollama, model_name: x}\nagents: {}", query="?mode=replace")
        assert [(one["line"], one["path"]) for one in said["details"]] == [(1, "$.models.demo"), (3, "$.agents.demo")]
        assert "used by demo" in said["details"][1]["message"]
        assert await exported(client) == before


async def test_if_match_guards_against_changes_of_others() -> None:
    async with served_engine() as (_, client):
        first = await client.get(f"{URL}/export")
        tag = first.headers["etag"]
        text = "agents: {a: {}}"
        answer = await client.post(f"{URL}/import", content=text, headers=YAML | {"if-match": tag})
        assert answer.status_code == 200
        assert answer.headers["etag"] == (await client.get(f"{URL}/export")).headers["etag"] != tag
        said = await refused(client, "agents: {b: {}}", 412, **{"if-match": tag})
        assert said["error"] == "precondition_failed"
        assert (await client.get("/api/v1/agents/b")).status_code == 404
        await imported(client, text, **{"if-match": f'"old", {answer.headers["etag"]}'})
        await imported(client, text, **{"if-match": "*"})


async def test_of_imports_at_once_for_one_version_one_is_taken_in() -> None:
    async with served_engine() as (_, client):
        tag = (await client.get(f"{URL}/export")).headers["etag"]
        answers = await asyncio.gather(
            *(
                client.post(f"{URL}/import", content=f"agents: {{a{n}: {{}}}}", headers=YAML | {"if-match": tag})
                for n in range(5)
            )
        )
        assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412, 412]
        assert len((await client.get("/api/v1/agents")).json()) == 2
        answers = await asyncio.gather(
            *(client.post(f"{URL}/import", content=f"agents: {{b{n}: {{}}}}", headers=YAML) for n in range(5))
        )
        assert {answer.status_code for answer in answers} == {200}
        assert len((await client.get("/api/v1/agents")).json()) == 7


# Credentials.


async def test_credentials_leave_as_variables_and_come_in_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLAUDE_API_KEY", raising=False)
    async with served_engine(settings=EMPTY) as (_, first), served_engine(settings=EMPTY) as (running, second):
        for name in ("claude", "a.b", "a-b", "4o"):
            model = {"name": name, "type": "anthropic", "model_name": "x", "api_key": f"sk-{name}"}
            await first.post("/api/v1/models", json=model)
        text = await exported(first)
        assert "sk-" not in text
        keys = [line.partition(": ")[2] for line in text.splitlines() if "api_key" in line]
        assert keys == ["${_4O_API_KEY}", "${A_B_API_KEY}", "${A_B_API_KEY_2}", "${CLAUDE_API_KEY}"]
        answer = await imported(second, text)
        assert "CLAUDE_API_KEY" in json.dumps(answer["warnings"])
        assert await exported(second) == text
        monkeypatch.setenv("CLAUDE_API_KEY", "sk-from-the-environment")
        target = await running.db.read(models.target, "claude")
        assert running.models.bind(target).base.api_key == "sk-from-the-environment"
        sealed = await running.db.read(lambda conn: conn.execute("select sealed_key from models").fetchall())
        assert all(b"sk-" not in row[0] and b"API_KEY" not in row[0] for row in sealed)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("{kind: chat}", "sk-stored"),
        ("{api_key: ''}", "sk-stored"),
        ("{api_key: null}", None),
        ("{api_key: '${NOT_SET}'}", "sk-stored"),
        ("{api_key: '${IS_SET}'}", "sk-set"),
        ("{api_key: '${NOT_SET:-sk-default}'}", "sk-default"),
        ("{api_key: sk-plain}", "sk-plain"),
        ("{api_key: '${BYTEBREW_TOKEN}'}", None),
    ],
)
@pytest.mark.parametrize("mode", ["merge", "replace"])
async def test_a_stored_key_is_never_wiped(
    given: str, kept: str | None, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IS_SET", "sk-set")
    monkeypatch.delenv("NOT_SET", raising=False)
    async with served_engine(settings=EMPTY) as (running, client):
        model = {"name": "m", "type": "anthropic", "model_name": "x", "api_key": "sk-stored"}
        await client.post("/api/v1/models", json=model)
        text = f"models: {{m: {given.replace('{', '{type: anthropic, model_name: z, ', 1)}}}"
        if kept is None:
            assert (await refused(client, text, query=f"?mode={mode}"))["details"][0]["line"] == 1
        else:
            await imported(client, text, f"?mode={mode}")
        bound = running.models.bind(await running.db.read(models.target, "m"))
        assert bound.base.api_key == (kept or "sk-stored")


async def test_a_key_that_is_written_out_is_warned_of_and_told_to_no_one() -> None:
    async with served_engine(settings=EMPTY) as (_, client):
        answer = await imported(client, "models:\n  m: {type: anthropic, model_name: x, api_key: sk-plain}")
        assert [(one["path"], one["line"]) for one in answer["warnings"]] == [("$.models.m.api_key", 2)]
        assert "sk-plain" not in json.dumps(answer) + await exported(client)


async def test_variables_are_expanded_and_what_looks_like_one_goes_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPS", "12")
    monkeypatch.delenv("NOT_SET", raising=False)
    async with served_engine() as (_, client):
        system = "Use ${braces} and $${more}"
        await client.post("/api/v1/agents", json={"name": "a", "system": system})
        await imported(client, await exported(client))
        assert (await client.get("/api/v1/agents/a")).json()["system"] == system
        answer = await imported(
            client, "agents:\n  b: {max_steps: '${STEPS}', system: 'x${NOT_SET}y', description: '$${A}'}"
        )
        agent = (await client.get("/api/v1/agents/b")).json()
        assert (agent["max_steps"], agent["system"], agent["description"]) == (12, "xy", "${A}")
        [warning] = [one for one in answer["warnings"] if one["path"] == "$.agents.b.system"]
        assert "NOT_SET is not set" in warning["message"]
        said = await refused(client, "agents:\n  b: {max_steps: '${NOT_SET}', system: '${BYTEBREW_TOKEN}'}")
        assert ["NOT_SET is not set" in said["details"][0]["message"], said["details"][1]["path"]] == [
            True,
            "$.agents.b.system",
        ]


@pytest.mark.parametrize("given", ["", ", api_key: ''", ", api_key: '${NOT_SET}'"])
async def test_a_stored_key_goes_to_no_other_address(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    monkeypatch.setenv("IS_SET", "sk-set")
    async with served_engine(settings=EMPTY) as (running, client):
        good, other = "https://good.example/v1", "https://other.example/v1"
        model = {"name": "m", "type": "openai_compatible", "model_name": "x", "api_key": "sk-stored", "base_url": good}
        await client.post("/api/v1/models", json=model)
        said = await refused(client, f"models: {{m: {{base_url: '{other}'{given}}}}}")
        assert [one["path"] for one in said["details"]] == ["$.models.m.api_key"]
        await imported(client, f"models: {{m: {{base_url: '{good}'{given}}}}}")
        for base_url in (other, good):  # the second time the variable is the stored one
            await imported(client, f"models: {{m: {{base_url: '{base_url}', api_key: '${{IS_SET}}'}}}}")
            bound = running.models.bind(await running.db.read(models.target, "m"))
            assert (bound.base.base_url, bound.base.api_key) == (base_url, "sk-set")


MOVING = """
models: {m: {type: openai_compatible, model_name: x, base_url: "https://a.example/v1", api_key: KEPT}}
tools: {t: {url: "https://a.example", auth: {type: bearer, token: KEPT}}}
mcp_servers:
  s: {type: http, url: "https://a.example", enabled: false, auth_key: KEPT, env: {A: KEPT}, headers: {X-A: KEPT}}
"""


async def test_a_credential_that_the_file_says_may_go_to_another_address() -> None:
    async with served_engine(settings=EMPTY) as (running, client):
        await imported(client, MOVING.replace("KEPT", "sk-kept"))
        moved = MOVING.replace("a.example", "b.example")
        answer = await imported(client, moved.replace("KEPT", "sk-kept"))
        found = {
            change["section"]: [one["field"] for one in change["fields"]]
            for change in answer["changes"]
            if change["action"] == "update"
        }
        assert found == {"models": ["base_url"], "tools": ["url"], "mcp_servers": ["url"]}
        assert (await running.db.read(models.target, "m")).base_url == "https://b.example/v1"


@pytest.mark.parametrize(
    ("stored", "given"),
    [("sk-kept", "''"), ("sk-kept", "${K}"), ("${K:-sk-kept}", "''"), ("${K:-sk-kept}", "${K}")],
)
async def test_a_credential_that_the_file_does_not_say_goes_to_no_other_address(
    stored: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("K", raising=False)
    async with served_engine(settings=EMPTY) as (_, client):
        await imported(client, MOVING.replace("KEPT", f'"{stored}"'))
        before = await exported(client)
        quoted = given if given == "''" else f'"{given}"'
        told = (await refused(client, MOVING.replace("a.example", "b.example").replace("KEPT", quoted)))["details"]
        paths = {one["path"] for one in told}
        servers = {f"$.mcp_servers.s.{field}" for field in ("auth_key", "env", "headers")}
        assert paths == {"$.models.m.api_key", "$.tools.t.auth", *servers}
        unmoved = await imported(client, MOVING.replace("KEPT", quoted))
        assert set(actions(unmoved).values()) == {"unchanged"}
        assert await exported(client) == before


async def test_the_export_of_an_engine_changes_nothing_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("K", raising=False)
    text = MOVING.replace("KEPT", '"${K:-sk-kept}"').replace("enabled: false", "enabled: false, auth_key_env: EMPTY")
    text = text.replace("env: {", "auth_type: bearer, env: {EMPTY: '', ").replace("headers: {", "headers: {X-E: '', ")
    async with served_engine(settings=EMPTY) as (running, client), served_engine(settings=EMPTY) as (_, other):
        await imported(client, text)
        once = await exported(client)
        assert 'EMPTY: ""' in once
        assert 'X-E: ""' in once
        for mode in ("merge", "replace"):
            assert set(actions(await imported(client, once, f"?mode={mode}")).values()) == {"unchanged"}
        bound = running.models.bind(await running.db.read(models.target, "m"))
        assert bound.base.api_key == "sk-kept"
        await imported(other, once)
        assert await exported(other) == once


async def test_the_variable_of_one_credential_is_made_for_no_other() -> None:
    text = """
models:
  a: {type: anthropic, model_name: x, api_key: sk-a}
  b: {type: anthropic, model_name: x, api_key: "${A_API_KEY}"}
agents: {c: {system: "Say $${A_API_KEY_2}"}}
"""
    async with served_engine(settings=EMPTY) as (_, client):
        await imported(client, text)
        keys = [line.strip() for line in (await exported(client)).splitlines() if "api_key" in line]
        assert keys == ["api_key: ${A_API_KEY_3}", "api_key: ${A_API_KEY}"]


async def test_a_credential_that_only_holds_a_variable_is_warned_of() -> None:
    async with served_engine(settings=EMPTY) as (_, client):
        answer = await imported(client, "models:\n  m: {type: anthropic, model_name: x,\n    api_key: 'sk-${PART}'}")
        [warning] = [one for one in answer["warnings"] if one["path"] == "$.models.m.api_key"]
        assert (warning["line"], warning["column"]) == (3, 14)
        assert "is used as it stands" in warning["message"]


async def test_a_model_that_cannot_embed_is_warned_of() -> None:
    async with served_engine(settings=EMPTY) as (_, client):
        answer = await imported(client, "models: {m: {type: anthropic, model_name: x, kind: embedding}}")
        assert "Models of type 'anthropic' make no embeddings" in [one["message"] for one in answer["warnings"]]


SECRETS = """
models:
  m: {type: anthropic, model_name: x, api_key: MARKED-0}
tools:
  bearer: {url: "https://a.example", auth: {type: bearer, token: MARKED-1}}
  basic: {url: "https://a.example", auth: {type: basic, username: u, password: MARKED-2}}
  header: {url: "https://a.example", auth: {type: header, name: X-Key, value: MARKED-3}}
mcp_servers:
  s:
    {type: http, url: "http://127.0.0.1:9/", enabled: false, env: {A: MARKED-4}, headers: {X-Key: MARKED-5},
     auth_key: MARKED-6}
agents: {a: {}}
webhooks:
  w: {agent: a, secret: MARKED-7-and-more-of-it}
"""


async def test_no_credential_is_told_anywhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="bytebrew")
    changed = SECRETS.replace("MARKED", "MARKED-ANEW")
    async with served_engine(*MCP, settings=EMPTY) as (running, client):
        told = [json.dumps(await imported(client, SECRETS)), await exported(client)]
        told += [json.dumps(await imported(client, changed, query)) for query in ("?dry_run=true&mode=replace", "")]
        for broken in (
            f"{SECRETS}settings: {{no.such: 1}}",
            *(SECRETS.replace(": MARKED", f": {sign}MARKED") for sign in "!*&@"),
            SECRETS.replace("MARKED", "MARKED" * 2000),
            SECRETS.replace("MARKED", "MARKED\x07"),
            SECRETS.replace("MARKED-7-and-more-of-it", "MARKED"),
            SECRETS.replace("//a.example", "//b.example"),
        ):
            answer = await client.post(f"{URL}/import", content=broken, headers=YAML)
            told.append(answer.text)
        audit = await client.get("/api/v1/audit", params={"per_page": 100})
        assert audit.status_code == 200
        files = [file.read_bytes().decode("latin-1") for file in running.data_dir.iterdir() if file.is_file()]
        told += [audit.text, await exported(client), caplog.text, *files]
    assert [text for text in told if "MARKED" in text] == []


# Who may, and what follows.


async def test_the_scope_config_does_it_and_others_do_not() -> None:
    async with served_engine(*MCP) as (running, client):
        able = (await token_with(running, "config")).token
        unable = (await token_with(running, "agents:write", "models:write", "agents:read")).token
        for token, status in ((able, 200), (unable, 403)):
            headers = {"authorization": f"Bearer {token}"}
            assert (await client.get(f"{URL}/export", headers=headers)).status_code == status
            assert (await client.post(f"{URL}/reload", headers=headers)).status_code == status
            given = await client.post(f"{URL}/import", content=b"agents: {a: {}}", headers=headers | YAML)
            assert given.status_code == status
        command = "mcp_servers:\n  s: {command: /bin/sh}"
        said = await refused(client, command, authorization=f"Bearer {able}")
        assert (said["details"][0]["path"], said["details"][0]["line"]) == ("$.mcp_servers.s", 2)


async def test_settings_are_an_admins_in_a_file_too() -> None:
    text = "settings: {byok.base_url: true}"
    async with served_engine() as (running, client):
        able = f"Bearer {(await token_with(running, 'config')).token}"
        said = await refused(client, text, authorization=able)
        assert "scope 'admin'" in said["details"][0]["message"]
        assert (await client.get("/api/v1/settings/byok.base_url")).json()["value"] is False
        await imported(client, text)
        await imported(client, text, authorization=able)  # it changes nothing


async def test_a_section_may_need_a_scope_of_its_own() -> None:
    there: dict[str, Any] = {"old": 1}

    class Guarded(ConfigSection):
        key = "guarded"
        item = None
        scope = "admin"

        def export(self, conn: Any, engine: Engine) -> dict[str, Any]:
            return there

        def put(self, conn: Any, engine: Engine, actor: Any, name: str, given: Any) -> None:
            there[name] = given

        def delete(self, conn: Any, engine: Engine, name: str) -> None:
            del there[name]

    async with served_engine(plugin(register_config_sections=lambda register: register(Guarded()))) as (
        running,
        client,
    ):
        able = f"Bearer {(await token_with(running, 'config')).token}"
        await imported(client, "guarded: {old: 1}\nagents: {x: {}}", authorization=able)
        for text, query, path in (
            ("guarded:\n  old: 2", "", "$.guarded.old"),
            ("guarded:\n  new: 2", "", "$.guarded.new"),
            ("guarded: {}", "?mode=replace", "$.guarded.old"),
        ):
            said = await refused(client, text, query=query, authorization=able)
            assert [one["path"] for one in said["details"]] == [path]
            assert "scope 'admin'" in said["details"][0]["message"]
        await imported(client, "guarded: {new: 2}", "?mode=replace")
        assert there == {"new": 2}


async def test_a_running_turn_keeps_what_it_began_with() -> None:
    held, begun = asyncio.Event(), asyncio.Event()

    @tool
    async def wait() -> str:
        """Waits."""
        begun.set()
        await held.wait()
        return "done"

    provider = ScriptedProvider([ToolCall("wait", {})], [MessageDelta(content="one")], [MessageDelta(content="two")])
    waiting = plugin(register_tools=lambda register: register(wait))
    async with served_engine(waiting, providing(provider)) as (running, client):
        await scripted_schema(running, system="old", tools=("wait",))
        turn = asyncio.create_task(chat(client, "test", "hi"))
        await begun.wait()
        await imported(client, "agents: {test: {system: new, tools: []}}")
        assert (await client.post(f"{URL}/reload")).status_code == 200
        held.set()
        await turn
        await chat(client, "test", "hi")
    assert [(one.system.partition("\n")[0], len(one.tools)) for one in provider.requests] == [
        ("old", 1),
        ("old", 1),
        ("new", 0),
    ]


async def test_a_reload_takes_in_the_file_again_and_a_failing_one_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("agents: {a: {max_steps: 3}}\nmodels: {m: {type: ollama, model_name: x}}")
    async with served_engine(settings={"BYTEBREW_CONFIG": str(file)}) as (_, client):
        assert [one["name"] for one in (await client.get("/api/v1/agents")).json()] == ["a"]
        file.write_text("agents: {a: {max_steps: 4}, b: {}}")
        answer = await client.post(f"{URL}/reload")
        assert answer.json() == {"status": "ok", "agents_loaded": 2, "models_loaded": 1}
        assert (await client.get("/api/v1/agents/a")).json()["max_steps"] == 4
        before = (await client.get("/api/v1/agents/a")).json()
        assert (await client.post(f"{URL}/reload")).status_code == 200
        assert (await client.get("/api/v1/agents/a")).json() == before
        file.write_text("agents: {a: {max_steps: 5}, c: {}}\nmodles: {}")
        failed = await client.post(f"{URL}/reload")
        assert failed.status_code == 400
        [problem] = check_refusal(failed)["details"]
        assert (problem["line"], problem["column"], problem["path"]) == (2, 1, "$.modles")
        file.unlink()
        assert (await client.post(f"{URL}/reload")).status_code == 422
        assert (await client.get("/api/v1/agents/a")).json()["max_steps"] == 4
        assert (await client.get("/api/v1/agents/c")).status_code == 404


async def test_sections_reconnect_once_what_changed_is_committed() -> None:
    seen: list[int] = []

    class Counting(Section):
        key = "counted"
        item = None

        async def changed(self, engine: Engine) -> None:
            seen.append(len(await engine.agents()))
            raise RuntimeError("a dead server")

    counting = plugin(register_config_sections=lambda register: register(Counting()))
    async with served_engine(counting) as (_, client):
        await imported(client, "agents: {a: {}}")
        assert seen == []
        assert (await client.post(f"{URL}/reload")).status_code == 200
        assert seen == [2]


async def test_capabilities_relations_and_a_circle_of_fallbacks_go_round() -> None:
    text = """
models:
  a: {type: ollama, model_name: x, fallback: [b]}
  b: {type: ollama, model_name: y, fallback: [a], is_default: true}
agents:
  one: {capabilities: [{type: memory, config: {max_entries: 5}}], can_spawn: [two]}
  two: {model: a}
schemas:
  s: {entry_agent: one, relations: [{source: one, target: two, config: {when: "always"}}]}
"""
    async with served_engine(settings=EMPTY) as (_, first), served_engine(settings=EMPTY) as (_, second):
        await imported(first, text)
        found = {one["name"]: one for one in (await first.get("/api/v1/models")).json()}
        assert {name: (one["fallback"], one["is_default"]) for name, one in found.items()} == {
            "a": (["b"], False),
            "b": (["a"], True),
        }
        [schema] = (await first.get("/api/v1/schemas")).json()
        assert [(one["source"], one["target"], one["config"]) for one in schema["relations"]] == [
            ("one", "two", {"when": "always"})
        ]
        once = await exported(first)
        await imported(second, once)
        assert await exported(second) == once
        said = await refused(first, "schemas:\n  s:\n    relations:\n      - {source: two, target: two}")
        assert (said["details"][0]["line"], said["details"][0]["path"]) == (4, "$.schemas.s.relations[0].target")


async def test_settings_are_exported_to_those_alone_who_may_read_them() -> None:
    async with served_engine() as (engine, client):
        await client.put("/api/v1/settings/custom.region", json={"value": "north"})
        assert "region" in await exported(client)
        token = (await token_with(engine, "config", name="pipeline")).token
        answer = await client.get("/api/v1/config/export", headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        assert "settings" not in answer.text
        assert "models" in answer.text
