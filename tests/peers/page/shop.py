"""A plugin of a small shop: a model that knows what its customers say, tools of every risk, and a vendor that fails."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from bytebrew import (
    Capabilities,
    Http,
    MessageDelta,
    ModelRequest,
    Provider,
    ProviderError,
    ProviderEvent,
    Stop,
    Thinking,
    ToolCall,
    ToolError,
    Usage,
    hookimpl,
    tool,
)

Steps = list[list[Any]]
ORDER = ["get_order", {"order_id": "48213"}]
TABLE = [
    "show_structured_output",
    {
        "output_type": "table",
        "title": "Order 48213",
        "rows": [{"label": "Trail stove", "value": "2 × 89.00 EUR"}, {"label": "Fuel canister", "value": "25.00 EUR"}],
    },
]
FORM = [
    "show_structured_output",
    {
        "output_type": "form",
        "title": "What arrived broken?",
        "questions": [
            {
                "id": "item",
                "label": "Which item?",
                "type": "select",
                "options": [{"label": "One stove"}, {"label": "Both stoves"}],
            },
            {"id": "what", "label": "What is wrong with it?", "type": "text"},
        ],
    },
]
REFUND = {
    "order_id": "48213",
    "amount": 89.0,
    "currency": "EUR",
    "reason": "Broken valve on arrival",
    "note_to_customer": "We are sorry about the stove.",
}
ANSWER = (
    "I am sorry to hear that. This is what you have ordered:\n\n- two **Trail stoves**\n- one fuel canister\n\n"
    "The [terms of return](https://shop.example/returns) give you 30 days; I have opened a case for you."
)
SCRIPTS: dict[str, Steps] = {
    "My stove arrived broken": [[{"think": "The customer writes about an order."}, ORDER, TABLE], [ANSWER]],
    "Only one of the two stoves is broken": [
        ["I will have that looked at. ", ["spawn_refunds", {"message": "Refund one broken stove of order 48213"}]],
        ["The refund is under way."],
    ],
    "Refund one broken stove of order 48213": [[ORDER], [["create_refund", REFUND]], ["Refunded: ", None]],
    "Where is my parcel?": [[["track_parcel", {"parcel": "JD014600"}]], ["The courier does not answer at the moment."]],
    "Write to the customer that it is on its way": [
        [["send_email", {"to": "ann@shop.example", "subject": "Your order", "body": "It is on its way."}]],
        ["Done."],
    ],
    "What is wrong with your stoves?": [["Tell me more. ", FORM]],
    "Are you there?": [[429]],
    "Count the stock": [["We have 14 stoves, 40 canisters and 3 tents in the store."]],
    "Read the whole manual to me": [[f"Page {n}. Keep the stove level and away from the tent. " for n in range(4000)]],
}
"""What the model does for each message; a number is the status that its vendor answers with."""


class Shop(Provider):
    """The model of the shop."""

    type = "shop"
    capabilities = Capabilities(vision=True, documents=True)

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        at = max(n for n, one in enumerate(request.messages) if one.role == "user")
        said = request.messages[at].content
        steps = next((steps for words, steps in SCRIPTS.items() if words in said), [["I will find that out for you."]])
        done = sum(one.role == "assistant" for one in request.messages[at:])
        words = 0
        await asyncio.sleep(0.05)
        for n, item in enumerate(steps[done] if done < len(steps) else ["That is all."]):
            if isinstance(item, int):
                raise ProviderError(f"The vendor answers {item}: too many requests", code="model_rate_limited")
            if isinstance(item, list):
                yield ToolCall(item[0], item[1], f"call_{done}_{n}")
            elif isinstance(item, dict):
                yield Thinking(content=item["think"])
            else:
                for word in (request.messages[-1].content if item is None else item).split(" "):
                    words += 1
                    yield MessageDelta(content=f"{word} ")
                    await asyncio.sleep(0.02 if "Page" in str(item) else 0.001)
        yield Usage(1200 + 300 * len(request.messages), 40 + words, 800)
        yield Stop()


@hookimpl
def register_providers(register: Any) -> None:
    """The model."""
    register(Shop())


@hookimpl
def register_tools(register: Any) -> None:
    """The tools of the shop."""

    @tool(idempotent=True)
    async def get_order(order_id: str) -> str:
        """An order with its items and its state."""
        return f'{{"order_id": "{order_id}", "state": "delivered", "items": 3, "total": "203.00 EUR"}}'

    @tool(risk="dangerous", confirm=True)
    async def create_refund(order_id: str, amount: float, currency: str, reason: str, note_to_customer: str) -> str:
        """Pays a part of an order back; it cannot be undone."""
        return f'{{"refund_id": "rf_90412", "amount": {amount}, "state": "booked"}}'

    @tool(risk="caution", confirm=True)
    async def send_email(to: str, subject: str, body: str) -> str:
        """Sends an e-mail to a customer."""
        return f"sent to {to}"

    @tool(idempotent=True)
    async def track_parcel(parcel: str) -> str:
        """Where a parcel is."""
        raise ToolError("courier.example answers 502 Bad Gateway")

    for one in (get_order, create_refund, send_email, track_parcel):
        register(one)
