"""What OpenAI's protocols share: errors, attachments, and the session whose history a client sends."""

import pytest
from bytebrew_openai.attachments import attachment
from bytebrew_openai.errors import refusal
from bytebrew_openai.responses.known_history import answer_of, keys

from bytebrew import (
    Attachment,
    BudgetExceeded,
    Detail,
    EngineError,
    Forbidden,
    InvalidRequest,
    Message,
    NotFound,
    ToolCall,
    Unauthorized,
    earlier_turns,
)

PNG = "iVBORw0KGgo="


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (InvalidRequest("no"), "invalid_request_error", "invalid_request"),
        (Unauthorized(), "authentication_error", "invalid_api_key"),
        (BudgetExceeded("no"), "insufficient_quota", "insufficient_quota"),
        (Forbidden("no"), "permission_error", "forbidden"),
        (NotFound("no"), "not_found_error", "not_found"),
        (EngineError("no"), "server_error", "internal_error"),
    ],
)
def test_an_error_has_openais_shape_and_the_engines_status_and_words(error: EngineError, kind: str, code: str) -> None:
    reply = refusal(error)
    assert reply.status == error.status
    assert reply.body == {"error": {"message": error.message, "type": kind, "param": "", "code": code}}


def test_an_error_names_the_parameter() -> None:
    error = InvalidRequest("no", details=[Detail("$.input[0].content", "no"), Detail("$.other", "no")])
    assert refusal(error).body["error"]["param"] == "input[0].content"


@pytest.mark.parametrize(
    ("text", "name", "made"),
    [
        (f"data:image/png;base64,{PNG}", "", Attachment(media_type="image/png", data=PNG)),
        (f"data:;base64,{PNG}", "", Attachment(media_type="image/jpeg", data=PNG)),
        (
            "https://x.example/a.gif?size=1",
            "",
            Attachment(media_type="image/gif", url="https://x.example/a.gif?size=1"),
        ),
        ("https://x.example/a", "", Attachment(media_type="image/jpeg", url="https://x.example/a")),
        (PNG, "a.pdf", Attachment(media_type="application/pdf", data=PNG, name="a.pdf")),
    ],
)
def test_an_attachment_is_a_data_url_a_url_or_base64(text: str, name: str, made: Attachment) -> None:
    assert attachment(text, "$.x", name=name, usual="image/jpeg") == made


@pytest.mark.parametrize("text", ["", "data:text/plain,hello", "data:image/png;base64,%%%", "ftp://x.example/a", "ü"])
def test_an_attachment_that_is_none_of_these_is_refused_with_its_path(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        attachment(text, "$.x", usual="image/png")
    assert refused.value.details[0].path == "$.x"


def test_the_key_of_a_turn_depends_on_all_that_was_said_before_and_not_on_how_answers_are_divided() -> None:
    def said(*messages: tuple[str, str]) -> list[str]:
        return keys(earlier_turns(Message(role=role, content=text) for role, text in messages))  # type: ignore[arg-type]

    first, second = said(("user", "a"), ("assistant", "b"), ("user", "c"))
    assert said(("user", "a")) == [first]
    assert said(("user", "a"), ("assistant", "other"), ("user", "c"))[1] != second
    assert said(("user", "x"), ("assistant", "b"), ("user", "c"))[1] != second
    assert said(("user", "a"), ("assistant", "b "), ("assistant", ""), ("user", "c"))[1] == second
    image = Message(role="user", content="a", attachments=(Attachment(media_type="image/png", data=PNG),))
    assert keys(earlier_turns([image])) != [first]


def test_tools_are_no_part_of_the_text_of_an_answer() -> None:
    [turn] = earlier_turns(
        [
            Message(role="user", content="a"),
            Message(role="assistant", content="Let me ", tool_calls=(ToolCall("look", {}, "c1"),)),
            Message(role="tool", call_id="c1", tool="look", content="blue"),
            Message(role="assistant", content="see: blue\n"),
        ]
    )
    assert answer_of(turn) == "Let me see: blue"
