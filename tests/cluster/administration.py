"""What the clients do beside their conversations, by dice: tasks, webhooks, and changes that every node must see."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable

from tests.cluster.conversations import Talker
from tests.cluster.scripts import script

HOOK = "hook"
HOOK_SECRET = "a secret of the clients and the webhook"
SEEN_SECONDS = 1.0
"""How long a change may take to be seen on all nodes, in half of the cases; one that is never seen stays for longer."""
MOST_SECONDS = 4.0
"""How long any change may take on a machine that is busy with other things."""


async def task(talker: Talker) -> None:
    """A new task, whose end is called back."""
    client, history = talker.client, talker.client.history
    mark = f"task-{client.mark()}"
    body = {"agent": "worker", "title": mark, "description": f"play {mark} {script(client.dice, mark, pieces=6)}"}
    answer = await client.keyed("/tasks", body)
    if answer.status != 201:
        history.violation(f"a task was answered {answer.status} {answer.content[:200]!r}")
        return
    history.tasks[task_id := answer.json["id"]] = mark
    if client.dice.random() < 0.2:
        await asyncio.sleep(client.dice.uniform(0, 2.0))
        history.cancelled.add(task_id)
        ended = await client.insist("DELETE", f"/tasks/{task_id}", {"reason": "no more"})
        history.check(ended.status in (204, 409), f"the cancel of task {task_id} answered {ended.status}")


async def webhook(talker: Talker) -> None:
    """A signed request, sent again to any node: it makes one task."""
    client, history = talker.client, talker.client.history
    mark = f"hook-{client.mark()}."
    raw = json.dumps({"mark": mark}).encode()
    history.hooks[mark] = False
    stamp = str(int(time.time())).encode()
    signature = hmac.digest(HOOK_SECRET.encode(), stamp + b"." + raw, hashlib.sha256).hex()
    headers = {"X-Webhook-Timestamp": stamp.decode(), "X-Webhook-Signature": f"sha256={signature}"}
    for _ in range(client.dice.randint(1, 3)):
        answer = await client.send("POST", f"/webhooks/{HOOK}", content=raw, headers=headers)
        if answer is None or answer.status == 503:
            continue
        if answer.status not in (202, 409):
            history.violation(f"webhook {mark} answered {answer.status} {answer.content[:200]!r}")
            return
        history.hooks[mark] = True


async def setting(talker: Talker) -> None:
    """A setting is changed, and seen on all nodes."""
    client = talker.client
    key, value = f"/settings/custom.{client.name}", client.mark()
    began = time.monotonic()
    answer = await client.insist("PUT", key, {"value": value})
    client.history.check(answer.status == 200, f"setting {key} answered {answer.status} {answer.content[:200]!r}")

    async def seen(port: int) -> bool | None:
        there = await client.send("GET", key, port=port)
        return there.json["value"] == value if there is not None and there.status == 200 else None

    await _everywhere(talker, f"setting {key}", seen, began)


async def agent(talker: Talker) -> None:
    """An agent is made or changed, and seen on all nodes."""
    client = talker.client
    path, description = f"/agents/agent-{client.name}", client.mark()
    began = time.monotonic()
    answer = await client.insist("PUT", path, {"description": description})
    if answer.status == 404:
        body = {"name": path.rpartition("/")[2], "model": "script", "description": description}
        answer = await client.keyed("/agents", body)
    client.history.check(answer.status in (200, 201), f"agent {path} answered {answer.status} {answer.content[:200]!r}")

    async def seen(port: int) -> bool | None:
        there = await client.send("GET", path, port=port)
        return there.json.get("description") == description if there is not None and there.status == 200 else None

    await _everywhere(talker, f"agent {path}", seen, began)


async def token(talker: Talker) -> None:
    """A token is made, opens every node, and is revoked: then it opens none."""
    client = talker.client
    made = await client.keyed("/auth/tokens", {"name": f"token-{client.mark()}", "scopes": ["chat"]})
    if made.status != 201:
        client.history.violation(f"a token was answered {made.status} {made.content[:200]!r}")
        return
    wanted = 200

    async def seen(port: int) -> bool | None:
        there = await client.send("GET", "/sessions?per_page=1", port=port, token=made.json["token"])
        return there.status == wanted if there is not None and there.status in (200, 401) else None

    await _everywhere(talker, "a new token", seen, time.monotonic())
    began, wanted = time.monotonic(), 401
    answer = await client.insist("DELETE", f"/auth/tokens/{made.json['id']}")
    client.history.check(answer.status in (204, 404), f"a revocation answered {answer.status}")
    await _everywhere(talker, "a revoked token", seen, began)


async def _everywhere(talker: Talker, what: str, seen: Callable[[int], Awaitable[bool | None]], began: float) -> None:
    """Every node that answers shows a change within a second of its answer."""
    history, moment = talker.client.history, time.monotonic()
    for node in talker.nodes:
        while node.alive and not (shown := await seen(node.port)):
            if shown is None or history.disturbed(began):
                return
            if time.monotonic() - moment > 2 * MOST_SECONDS:
                break
            await asyncio.sleep(0.02)
        if history.disturbed(began):
            return
        waited = time.monotonic() - moment
        history.waits["change"].append(waited)
        if waited > MOST_SECONDS:
            history.violation(f"{what} was not seen on node {node.number} {waited:.1f} s after its answer")


async def read(talker: Talker) -> None:
    """Lists and sums."""
    client = talker.client
    paths = ["/sessions?per_page=50", "/tasks?per_page=50", "/usage?group_by=agent", "/settings", "/agents"]
    paths += ["/approvals", "/audit?per_page=20", "/health?deep=true"]
    path = client.dice.choice(paths)
    answer = await client.send("GET", path)
    if answer is not None and answer.status not in (200, 503):
        client.history.violation(f"{path} answered {answer.status} {answer.content[:200]!r}")


ACTS: tuple[tuple[Callable[[Talker], Awaitable[None]], int], ...] = (
    (Talker.talk, 40),
    (Talker.crowd, 8),
    (Talker.steer, 6),
    (Talker.cancel, 6),
    (Talker.unqueue, 3),
    (Talker.repeat, 10),
    (Talker.follow, 8),
    (Talker.delete, 2),
    (task, 8),
    (webhook, 4),
    (setting, 3),
    (agent, 3),
    (token, 3),
    (read, 6),
)
