"""What a streamed answer is read as: tokens, chunks, times and failures."""

import json

import pytest
from llmval_runners.openai_client.answer import ServerRequest, StreamedAnswer, has_output, message_of


def event(value: object) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def text(content: str = " a", reason: str | None = None) -> dict:
    return {"choices": [{"index": 0, "text": content, "finish_reason": reason}]}


def usage(prompt: int, output: int) -> dict:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": output}}


DONE = event(b"[DONE]")


def read(
    *parts: tuple[float, object], asked: int = 3, early_end: bool = False, status: int = 200,
    kind: str = "text/event-stream; charset=utf-8", end: bool = True, cut: int = 0,
) -> ServerRequest:  # fmt: skip
    """Each part at its time. `cut` N: the bytes come in pieces of N, at the times of their parts."""
    request = ServerRequest(0, 5, asked, 0.5, 0.5)
    ended: list[StreamedAnswer] = []
    first: list[float] = []
    answer = StreamedAnswer(
        request, 100.0, first=lambda _, now: first.append(now), ended=ended.append,
        clean=lambda found: found.replace("sk-secret", "******"), early_end=early_end,
    )  # fmt: skip
    answer.headers(status, {"content-type": kind})
    for when, value in parts:
        answer.now = 100.0 + when
        data = value if isinstance(value, bytes) else event(value)
        for start in range(0, len(data), cut or len(data)):
            answer.body(data[start : start + (cut or len(data))])
    if end:
        answer.end()
    assert len(ended) == (1 if end else len(ended)) and len(first) <= 1
    assert first == list(request.token_times[:1])
    return request


@pytest.mark.parametrize("cut", [0, 1, 7, 64])
def test_a_whole_answer(cut: int) -> None:
    """However its bytes are cut. The last time is that of the last output, not of the usage after it."""
    found = read(
        (1, text()), (1.5, text("")), (2.25, text(" c", "length")), (3, usage(7, 3)), (4, DONE), cut=cut
    )  # fmt: skip
    assert (found.error, found.done, list(found.token_times)) == ("", True, [1, 1.5, 2.25])
    assert (found.first_token_s, found.last_token_s) == (1, 2.25)
    assert (found.input_tokens, found.received_tokens, found.finish_reason) == (7, 3, "length")


def test_tokens_are_those_of_the_usage_not_the_chunks() -> None:
    found = read((1, text(" a b c d")), (2, text(" e f", "length")), (2, usage(5, 6)), (2, DONE), asked=6)
    assert (found.done, found.received_tokens, len(found.token_times)) == (True, 6, 2)


def test_a_usage_in_every_chunk_ends_with_the_last_one() -> None:
    chunks = [(1.0 + n, text() | {"usage": usage(5, n)["usage"]}) for n in (1, 2, 3)]
    assert read(*chunks, (9, DONE)).received_tokens == 3


@pytest.mark.parametrize(
    ("choice", "output"),
    [
        ({"text": ""}, True),
        ({"delta": {"content": ""}}, True),
        ({"delta": {"content": None}}, True),
        ({"delta": {"reasoning": "hm"}}, True),
        ({"delta": {"reasoning_content": ""}}, True),
        ({"delta": {"tool_calls": [{}]}}, True),
        ({"delta": {"role": "assistant"}}, False),
        ({"delta": {"role": "assistant", "content": ""}}, False),
        ({"delta": {"role": "assistant", "content": None}}, False),
        ({"delta": {"role": "assistant", "content": "a"}}, True),
        ({"delta": {}, "finish_reason": "stop"}, False),
        ({"delta": None}, False),
        ({}, False),
    ],
)
def test_the_first_token_is_a_chunk_with_output_and_no_role_alone(choice: dict, output: bool) -> None:
    assert has_output(choice) == output


def test_comments_and_other_fields_of_events_are_not_chunks() -> None:
    stream = b": ping\r\n\r\nevent: x\r\nid: 4\r\nretry: 5\r\ndata:" + json.dumps(text()).encode() + b"\r\n\r\n"
    found = read((1, stream), (2, usage(5, 3)), (2, DONE))
    assert (found.done, list(found.token_times)) == (True, [1])


@pytest.mark.parametrize(
    ("parts", "named", "kind", "error"),
    [
        ([(1, text()), (2, text())], {}, "cut", "ended without a finish_reason and without"),
        ([(1, text()), (2, text(" b", "length")), (2, DONE)], {}, "usage", "has no usage"),
        ([(1, text()), (2, usage(5, 1)), (2, DONE)], {}, "truncated", "truncated: 1 of 3 tokens (no finish_reason)"),
        ([(1, text(" a", "stop")), (2, usage(5, 2))], {}, "truncated", "truncated: 2 of 3 tokens (stop)"),
        ([(1, text(" a", "stop")), (2, usage(5, 2))], {"early_end": True}, "", ""),
        ([(1, text(" a", "length")), (2, usage(5, 2))], {"early_end": True}, "truncated", "2 of 3 tokens (length)"),
        ([(1, text(" a", "abort")), (2, usage(5, 2))], {"early_end": True}, "truncated", "2 of 3 tokens (abort)"),
        ([(1, DONE)], {}, "stream", "the stream ended without output"),
        ([(1, event(b"{not JSON"))], {}, "stream", "a chunk of the stream is not a JSON object: {not JSON"),
        ([(1, event(b'"text"'))], {}, "stream", 'a chunk of the stream is not a JSON object: "text"'),
        ([(1, event(b'[DONE] "half'))], {}, "stream", "not a JSON object"),
        ([(1, {"error": {"message": "out of memory"}})], {}, "stream", "error in the stream: out of memory"),
        ([(1, b'{"choices": []}\n')], {}, "stream", "a line that is not an event"),
        ([(1, text()), (2, b"data: \xff\xfe\n\n")], {}, "stream", "a chunk of the stream is not"),
        ([(1, b'{"detail": "Not Found"}')], {"status": 404}, "http_status", "HTTP 404: Not Found"),
        ([(1, b"<html>oops sk-secret")], {"status": 502}, "http_status", "HTTP 502: <html>oops ******"),
        ([], {"status": 500}, "http_status", "HTTP 500: no message"),
        ([(1, b'{"choices": []}')], {"kind": "application/json"}, "stream", "does not stream"),
    ],
)  # fmt: skip
def test_a_failure_has_its_kind_and_its_reason(parts: list, named: dict, kind: str, error: str) -> None:
    found = read(*parts, **named)
    assert found.kind == kind and error in found.error
    assert found.done == (not kind)
    if kind:
        assert found.last_token_s is None


def test_what_comes_after_a_failure_changes_nothing() -> None:
    found = read((1, text()), (2, b"data: x\n\n"), (3, text()), (4, usage(5, 3)), (5, DONE))
    assert found.kind == "stream" and list(found.token_times) == [1]


def test_a_redirect_names_its_target() -> None:
    request = ServerRequest(0, 5, 3)
    answer = StreamedAnswer(request, 0, first=lambda *_: None, ended=lambda _: None, clean=str)
    answer.headers(307, {"location": "http://other/v1"})
    answer.body(b"moved")
    answer.end()
    assert request.error == "HTTP 307: it redirects to http://other/v1; pass that as --url"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "no such model", "type": "x"}}', "no such model"),
        (b'{"object": "error", "message": "too long"}', "too long"),
        (b'{"detail": [{"loc": ["body", "ignore_eos"], "msg": "Extra inputs"}]}', "body.ignore_eos: Extra inputs"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b"plain words", "plain words"),
        (b"", "no message"),
        (b"[]", "[]"),
    ],
)
def test_the_message_of_an_error_is_found_in_every_form(body: bytes, message: str) -> None:
    assert message_of(body) == message
