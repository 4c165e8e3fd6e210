"""What an operator sees of nodes: the metrics of each, their list, and `bytebrew status`."""

import pytest

from tests.nodes.chats import Stream, eventually, say, two
from tests.plugins.test_metrics import scrape

pytestmark = pytest.mark.postgresql


async def test_each_node_has_metrics_of_its_place_among_the_nodes() -> None:
    async with two([say("one")]) as (a, b, _):

        async def both_are_known() -> bool:
            return all([(await scrape(node.http))["bytebrew_nodes"] == 2 for node in (a, b)])

        await eventually(both_are_known)
        pages = [await scrape(node.http) for node in (a, b)]
        assert [page["bytebrew_node_leads"] for page in pages] == [1, 0]
        for page in pages:
            assert 0 <= page["bytebrew_node_lease_age_seconds"] < 10
            assert 0 <= page["bytebrew_node_silence_seconds"] < 10
            assert page["bytebrew_nodes_ended_total"] == page["bytebrew_turns_taken_over_total"] == 0


async def test_signals_and_the_delay_of_events_are_counted_where_somebody_follows_them() -> None:
    async with two([say("one")]) as (a, b, _):
        first = Stream(a.http, "1")
        await first.whole()
        before = await scrape(b.http)
        async with b.http.stream("GET", f"/api/v1/sessions/{first.session}/events") as followed:
            await Stream(a.http, "2", session_id=first.session).whole()
            text = ""
            async for part in followed.aiter_text():
                text += part
                if text.count("event: done") == 2:
                    break
        sent, page = await scrape(a.http), await scrape(b.http)
        delay = "bytebrew_remote_event_delay_seconds"
        assert page[f"{delay}_count"] - before[f"{delay}_count"] == 3
        assert 0 <= page[f"{delay}_sum"] < 10
        assert page["bytebrew_signals_received_total"] > before["bytebrew_signals_received_total"]
        assert sent["bytebrew_signals_sent_total"] > 0
        assert sent[f"{delay}_count"] == 0


async def test_a_node_counts_the_turns_that_it_takes_over() -> None:
    async with two([say("one"), 60.0], [say("two")]) as (a, b, _):
        running = Stream(a.http, "1")
        await running.until("message_delta")
        await a.stop()

        async def taken() -> bool:
            return (await scrape(b.http))["bytebrew_turns_taken_over_total"] == 1

        await eventually(taken)
        page = await scrape(b.http)
        assert (page["bytebrew_node_leads"], page["bytebrew_nodes"], page["bytebrew_nodes_ended_total"]) == (1, 1, 0)
        await running.task
