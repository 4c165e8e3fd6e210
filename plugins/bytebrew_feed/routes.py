"""The route of the feed."""

from collections.abc import Sequence

from bytebrew import Detail, InvalidRequest, Parameter, Request, Route, Stream

from .changes import TOPICS
from .feed import Feed


def route(feed: Feed) -> Route:
    """The route, bound to the feed of an engine."""

    async def follow_changes(request: Request[None]) -> Stream:
        """What changes in the engine from now on, or since the event of `Last-Event-ID`, as Server-Sent Events.

        Each is a hint: its name is a topic, its data are `topic`, `id`, `at` and `data`, with ids, states and names
        alone. An event `missed` means that some may have been missed: ask for what there is. The topics are
        approval.created, approval.answered, turn.queued, turn.started, turn.ended, task.changed, mcp.changed,
        budget.near and config.changed; `topics` takes their first words too, such as `approval,turn`.
        """
        topics = _wanted(request.query.get("topics", ""))
        await feed.begin()  # before the answer: what its reader does then is told
        return Stream(
            frames=feed.follow(request.headers.get("last-event-id") or request.query.get("after", ""), topics)
        )

    return Route(
        method="GET",
        path="/api/v1/events",
        scope="admin",
        run=follow_changes,
        summary="Follow changes in the engine",
        query={
            "topics": "topics, or their first words, with commas between them; all if there are none",
            "after": "the id of the last event that was seen, in place of the header",
        },
        headers={"Last-Event-ID": Parameter("the id of the last event that was seen")},
        streams=True,
    )


def _wanted(text: str) -> Sequence[str]:
    """The topics that a request names; InvalidRequest for one that there is not."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if not any(topic == word or topic.startswith(f"{word}.") for topic in TOPICS):
            message = f"one of {', '.join(TOPICS)}, or their first words"
            raise InvalidRequest(f"topics: '{word[:40]}' is none; {message}", details=[Detail("$.topics", message)])
    return [topic for topic in TOPICS if not words or topic in words or topic.partition(".")[0] in words]
