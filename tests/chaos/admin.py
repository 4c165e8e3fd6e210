"""What the clients do with tasks, tokens, agents, triggers, settings and the configuration, by dice."""

import hashlib
import hmac
import json
import time
from typing import Any

from tests.chaos.client import Client
from tests.chaos.model import Task
from tests.chaos.scripts import script
from tests.disturbed.client import Answer

ENDED = ("completed", "failed", "cancelled")
TICK = '[["tick"]]'


async def task(client: Client) -> None:
    """A new task, which waits for others or is part of one perhaps."""
    dice, model, mark = client.dice, client.model, client.mark()
    known = list(model.tasks)[-10:]
    body: dict[str, Any] = {"agent": "worker", "title": f"task {mark}", "description": script(dice, client.mark)}
    body["priority"] = dice.randint(0, 2)
    if known and dice.random() < 0.35:
        body["blocked_by"] = dice.sample(known, min(len(known), dice.randint(1, 2)))
    if known and dice.random() < 0.15:
        body["parent_task_id"] = dice.choice(known)
    if dice.random() < 0.15:
        body["require_approval"] = True
    answer = await client.keyed("/tasks", body)
    if answer is None:
        return
    if answer.status == 201:
        made = answer.json
        model.tasks[made["id"]] = Task(made["id"], list(body.get("blocked_by", ())))
        return
    refused = answer.status in (400, 409) and "parent_task_id" in body
    model.check(refused, f"a task was answered {answer.status} {answer.content[:200]!r}")


async def steer(client: Client) -> None:
    """Looks at a task, or moves it."""
    dice, model = client.dice, client.model
    if not model.tasks:
        return
    one = model.tasks[dice.choice(list(model.tasks)[-15:])]
    path = f"/tasks/{one.id}"
    what = dice.choice(("look", "look", "cancel", "approve", "complete", "fail", "priority"))
    if what == "look":
        answer = await client.send("GET", path)
        if answer is not None and answer.status == 200 and answer.json["status"] in ENDED:
            _ends(client, one, answer.json["status"])
        allowed: tuple[int, ...] = (200,)
    elif what == "cancel":
        answer = await client.send("DELETE", path, {"reason": "no more"})
        if answer is not None and answer.status == 204:
            _ends(client, one, "cancelled")
        allowed = (204, 409)
    else:
        body = {"priority": dice.randint(0, 2)} if what == "priority" else {"reason": "by hand"}
        answer = await client.send("POST", f"{path}/{what}", body if what in ("priority", "fail") else {})
        if answer is not None and answer.status == 200 and what in ("complete", "fail"):
            _ends(client, one, "completed" if what == "complete" else "failed")
        allowed = (200, 409)
    if answer is not None:
        _one_of(client, answer, allowed, f"{what} of task {one.id}")


def _ends(client: Client, one: Task, status: str) -> None:
    client.model.check(one.end in ("", status), f"task {one.id} was {one.end} and is {status}")
    one.end = status


async def token(client: Client) -> None:
    """Makes a token, uses one, or revokes one, after which it opens nothing."""
    dice, model = client.dice, client.model
    if client.secrets and dice.random() < 0.6:
        token_id = dice.choice(list(client.secrets))
        name, secret = client.secrets[token_id]
        if model.things["token", token_id] == {"there"} and dice.random() < 0.4:
            answer = await client.send("DELETE", f"/auth/tokens/{token_id}")
            _changed(client, answer, "token", token_id, "gone", (204,))
        answer = await client.send("GET", "/sessions?per_page=1", token=secret, refusals=True)
        if answer is not None and answer.status != 503:
            _observed(client, "token", token_id, "gone" if answer.status == 401 else "there", name)
        return
    name = f"token-{client.mark()}"
    answer = await client.keyed("/auth/tokens", {"name": name, "scopes": ["chat"]})
    if answer is not None and answer.status == 201:
        made = answer.json
        client.secrets[made["id"]] = (name, made["token"])
        model.set_state("token", made["id"], "there")
    elif answer is not None:
        model.violation(f"a token was answered {answer.status} {answer.content[:200]!r}")


async def agent(client: Client) -> None:
    """Makes, changes or deletes an agent of the client's own."""
    await _own(client, "agent", {"model": "script", "description": "chaos"}, {"description": f"{client.mark()}"})


async def schedule(client: Client) -> None:
    """Makes, changes or deletes a schedule that fires each minute."""
    missed = client.dice.choice(("skip", "once"))
    new = {"cron": "* * * * *", "agent": "worker", "message": TICK, "missed": missed}
    await _own(client, "schedule", new, {"missed": missed}, most=2)


async def webhook(client: Client) -> None:
    """Makes a webhook, or fires the client's own: each request makes one task, however often it is sent."""
    dice, model = client.dice, client.model
    name = f"hook-{client.number}"
    if ("webhook", name) not in model.things:
        secret = f"{client.uuid()}"
        new = {"name": name, "agent": "worker", "secret": secret, "message": f"{{{{body.mark}}}} {TICK}"}
        answer = await client.keyed("/webhooks", new)
        if answer is not None and answer.status == 201:
            client.hook_secret = secret
            model.set_state("webhook", name, "there")
        return
    mark = f"mark-{client.mark()}-"
    raw = json.dumps({"mark": mark}).encode()
    stamp = str(int(time.time() + client.process.offset)).encode()
    secret = client.hook_secret
    signature = hmac.digest(secret.encode(), stamp + b"." + raw, hashlib.sha256).hex()
    headers = {"X-Webhook-Timestamp": stamp.decode(), "X-Webhook-Signature": f"sha256={signature}"}
    model.hooks[mark] = False
    for _ in range(dice.randint(1, 3)):
        answer = await client.send("POST", f"/webhooks/{name}", content=raw, headers=headers, refusals=True)
        if answer is None or answer.status == 503:
            continue
        if answer.status == 401 and time.monotonic() - model.jumped < 5:
            return
        if answer.status == 409 and not model.hooks[mark]:
            model.hooks[mark] = True  # an earlier one, of which no answer came, has made it
        elif answer.status == 202:
            model.check(not model.hooks[mark], f"the webhook's request {mark} was taken twice")
            model.hooks[mark] = True
        else:
            _one_of(client, answer, (409,), f"a webhook {mark}")


async def setting(client: Client) -> None:
    """Sets a value of the client's own, or one that has the engine pack and log otherwise."""
    dice, model = client.dice, client.model
    if dice.random() < 0.3:
        key, value = dice.choice((("log.level", "info"), ("log.level", "warning"), ("retention.events", 1)))
        answer = await client.send("PUT", f"/settings/{key}", {"value": value})
        if answer is not None:
            _one_of(client, answer, (200,), f"setting {key}")
        return
    key, value = f"custom.c{client.number}", str(client.mark())
    answer = await client.send("PUT", f"/settings/{key}", {"value": value})
    model.things.setdefault(("setting", key), {"None"})
    _changed(client, answer, "setting", key, value, (200,))
    answer = await client.send("GET", f"/settings/{key}")
    if answer is not None and answer.status == 200:
        _observed(client, "setting", key, str(answer.json["value"]), key)


async def config(client: Client) -> None:
    """Exports the configuration and tries it, or imports an agent."""
    dice, model = client.dice, client.model
    if dice.random() < 0.5:
        answer = await client.send("GET", "/config/export")
        if answer is None or answer.status == 503:
            return
        _one_of(client, answer, (200,), "an export")
        headers, path = {"Content-Type": "application/x-yaml"}, "/config/import?dry_run=true"
        tried = await client.send("POST", path, content=answer.content, headers=headers)
        if tried is not None:
            _one_of(client, tried, (200,), "trying an export")
        return
    name = f"imported-{client.mark()}"
    raw = f"agents:\n  {name}:\n    model: script\n    system: imported\n".encode()
    model.imported.add(name)
    model.set_state("agent", name, "gone")
    headers = {"Content-Type": "application/x-yaml"}
    answer = await client.send("POST", "/config/import", content=raw, headers=headers)
    _changed(client, answer, "agent", name, "there", (200,))


async def verify(client: Client) -> None:
    """A thing that was acknowledged is there, one that was deleted is gone."""
    kinds = ("agent", "schedule", "webhook")
    own = [key for key in client.model.things if key[0] in kinds]
    if own:
        kind, name = client.dice.choice(own[-40:])
        before = set(client.model.things[kind, name])
        answer = await client.send("GET", f"/{kind}s/{name}")
        if answer is not None and answer.status != 503 and before == client.model.things[kind, name]:
            _observed(client, kind, name, "gone" if answer.status == 404 else "there", name)


async def _own(client: Client, kind: str, new: dict[str, Any], patch: dict[str, Any], most: int = 20) -> None:
    """Makes a thing of a kind, or changes or deletes one of the client's own."""
    model, dice = client.model, client.dice
    mine = [one for one in client.own if one.startswith(kind) and model.things[kind, one] == {"there"}]
    if mine and (len(mine) >= most or dice.random() < 0.5):
        name = dice.choice(mine)
        if dice.random() < 0.5:
            answer = await client.send("PUT", f"/{kind}s/{name}", patch)
            if answer is not None:
                _one_of(client, answer, (200,), f"a change of {kind} {name}")
            return
        model.may_be(kind, name, "gone")
        answer = await client.send("DELETE", f"/{kind}s/{name}")
        _changed(client, answer, kind, name, "gone", (204,))
        return
    name = f"{kind}-{client.mark()}"
    client.own.append(name)
    model.set_state(kind, name, "gone")
    model.may_be(kind, name, "there")
    if dice.random() < 0.6:
        answer = await client.keyed(f"/{kind}s", {"name": name, **new})
    else:
        answer = await client.send("POST", f"/{kind}s", {"name": name, **new})
    _changed(client, answer, kind, name, "there", (201,))


def _changed(client: Client, answer: Answer | None, kind: str, name: str, state: str, fine: tuple[int, ...]) -> None:
    """Notes what became of a change."""
    if answer is None or answer.status == 503:
        client.model.may_be(kind, name, state)
    elif answer.status in fine:
        client.model.set_state(kind, name, state)
    else:
        client.model.violation(f"{kind} {name} to be {state}: {answer.status} {answer.content[:200]!r}")


def _observed(client: Client, kind: str, name: str, state: str, words: str) -> None:
    """A thing is in a state that it may have; from now on it has that."""
    possible = client.model.things[kind, name]
    client.model.check(state in possible, f"{kind} {words} is {state} and not {' or '.join(sorted(possible))}")
    client.model.set_state(kind, name, state)


def _one_of(client: Client, answer: Answer, statuses: tuple[int, ...], what: str) -> None:
    if answer.status not in (*statuses, 503):
        client.model.violation(f"{what}: {answer.status} {answer.content[:200]!r}")
