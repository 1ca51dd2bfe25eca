"""Prompts of a known length, and prompts and arrivals from files."""

import json
from pathlib import Path

import pytest
from llmval_runners.load_test.generator import Arrival
from llmval_runners.openai_client.options import parse
from llmval_runners.openai_client.prompts import LETTERS, POOL, WORDS, Bodies, Prompt, TextFit, read_prompts, read_trace
from llmval_runners.process.errors import Refused


def bodies(*flags: str, fit: TextFit | None = None, prompts: list[Prompt] | None = None) -> Bodies:
    options = parse(["--url", "http://x", *flags])
    return Bodies(
        options.server, "m", prompt_format=options.prompt_format, vocab=options.vocab, fit=fit, prompts=prompts or []
    )


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1000, POOL + 100])
def test_a_prompt_of_token_ids_has_exactly_as_many_as_drawn(count: int) -> None:
    made = bodies("--vocab", "5000")
    body = json.loads(made.body(Arrival(3, 0.0, count, 17), 1))
    assert len(body["prompt"]) == count and min(body["prompt"]) >= 1000 and max(body["prompt"]) < 5000
    assert (body["max_tokens"], body["model"], body["stream"], body["ignore_eos"]) == (17, "m", True, True)
    assert body["stream_options"] == {"include_usage": True}


def test_a_prompt_depends_on_seed_and_index_and_begins_like_no_other() -> None:
    """So that a prefix cache has nothing to give."""
    made = bodies()
    starts = {tuple(json.loads(made.body(Arrival(i, 0.0, 600, 1), s))["prompt"][:4]) for i in range(50) for s in (1, 2)}
    assert len(starts) == 100
    assert made.body(Arrival(4, 0.0, 600, 1), 1) == bodies().body(Arrival(4, 9.0, 600, 1), 1)


def test_a_small_vocabulary_is_kept() -> None:
    prompt = json.loads(bodies("--vocab", "512").body(Arrival(0, 0.0, 3000, 1), 0))["prompt"]
    assert max(prompt) < 512 and len(set(prompt)) > 200


def test_a_chat_prompt_has_as_many_words_as_its_fit_says() -> None:
    made = bodies("--api", "chat", fit=TextFit(LETTERS, 11, 2))
    body = json.loads(made.body(Arrival(0, 0.0, 111, 5), 0))
    words = body["messages"][0]["content"].split()
    assert len(words) == 50 and set(words) <= set(LETTERS) and "prompt" not in body


def test_a_fit_goes_through_what_the_server_counted() -> None:
    fit = TextFit.through(WORDS, (16, 27), (80, 91))
    assert (fit.overhead, fit.per_word, fit.exact, fit.count(1011)) == (11, 1, True, 1000)
    assert not TextFit.through(WORDS, (16, 40), (80, 170)).exact
    assert fit.count(3) == 1, "no prompt is shorter than one word"
    with pytest.raises(Refused, match="does not count the prompt"):
        TextFit.through(WORDS, (16, 9), (80, 9))


def test_extra_fields_are_sent_and_own_ones_refused() -> None:
    body = json.loads(bodies("--extra-body", '{"top_p": 0.5}', "--no-ignore-eos").body(Arrival(0, 0, 9, 1), 0))
    assert body["top_p"] == 0.5 and "ignore_eos" not in body
    with pytest.raises(Refused, match="may not have max_tokens"):
        parse(["--url", "http://x", "--extra-body", '{"max_tokens": 5}'])
    with pytest.raises(Refused, match="not a JSON object"):
        parse(["--url", "http://x", "--extra-body", "[1]"])


def test_prompts_of_the_operator(tmp_path: Path) -> None:
    file = tmp_path / "p"
    file.write_text('Why?\n\n{"prompt": "How\\n\\"so\\"?", "output_tokens": 7}\n')
    found = read_prompts(file)
    assert found == [Prompt("Why?", None), Prompt('How\n"so"?', 7)]
    made = bodies("--prompts", str(file), prompts=found)
    arrivals = [Arrival(index, 0.0, 99, 5) for index in range(3)]
    assert [json.loads(made.body(one, 0))["prompt"] for one in arrivals] == ["Why?", 'How\n"so"?', "Why?"]
    assert [made.output_tokens(one) for one in arrivals] == [5, 7, 5]
    assert made.input_tokens(arrivals[0]) is None


def test_a_trace_gives_times_and_lengths(tmp_path: Path) -> None:
    table, lines = tmp_path / "t.csv", tmp_path / "t.jsonl"
    table.write_text("time_s,prompt_tokens,output_tokens\n12.5,100,10\n10,200, 20\n")
    lines.write_text(
        '{"timestamp": 10000, "input_length": 200, "output_length": 20, "hash_ids": [1]}\n'
        '{"timestamp": 12500, "input_length": 100, "output_length": 10}\n'
    )
    assert read_trace(table) == read_trace(lines) == [Arrival(0, 0.0, 200, 20), Arrival(1, 2.5, 100, 10)]


@pytest.mark.parametrize(
    ("reader", "content", "sentence"),
    [
        (read_trace, "1,2,3\n1,2\n", "line 2 of --trace .* is not an arrival"),
        (read_trace, "1,2,3\n-1,2,3\n", "line 2 of"),
        (read_trace, "1,2,3\n2,0,3\n", "line 2 of"),
        (read_trace, "1,2,3\nnan,2,3\n", "line 2 of"),
        (read_trace, '{"timestamp": 1}\n', "line 1 of"),
        (read_trace, "1,2,3\n", "no two arrivals at different times"),
        (read_trace, "1,2,3\n1,2,3\n", "no two arrivals at different times"),
        (read_trace, "{x\n", "line 1 of --trace .* is not JSON"),
        (read_prompts, "\n \n", "has no prompt"),
        (read_prompts, '{"text": "x"}\n', "line 1 of --prompts .* is not"),
        (read_prompts, '{"prompt": "x", "output_tokens": 0}\n', "line 1 of --prompts .* is not"),
        (read_prompts, None, r"cannot be read \(No such file"),
        (read_trace, b"\xff\xfe", "it is not UTF-8"),
    ],
)
def test_a_file_that_is_none_is_refused_by_its_line(tmp_path: Path, reader, content, sentence: str) -> None:
    file = tmp_path / "f"
    if isinstance(content, str):
        file.write_text(content)
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(Refused, match=sentence):
        reader(file)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--trace", "t", "--target-qps", "4"], "--trace has times and lengths of its own: leave --target-qps out"),
        (["--trace", "t", "--find-max-qps"], "leave --find-max-qps out"),
        (["--prompts", "p", "--prompt-len", "4"], "--prompts has prompts of its own: leave --prompt-len out"),
        (["--prompts", "p", "--trace", "t"], "leave --trace out"),
        (["--api", "chat", "--prompt-format", "ids"], "the chat API takes no token ids"),
        (["--api", "chat", "--vocab", "9"], "--vocab is for prompts of token ids"),
        (["--insecure", "--ca-file", "x"], "not allowed with argument"),
        (["--temperature", "-1"], "a temperature of -1 is not possible"),
        (["--burstiness", "0"], "0 is not above 0"),
    ],
)
def test_flags_that_exclude_each_other(flags: list[str], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        parse(["--url", "http://x", *flags])


def test_the_server_that_an_item_rests_on_is_the_default(monkeypatch) -> None:
    with pytest.raises(Refused, match="no server is named: pass --url"):
        parse([])
    monkeypatch.setenv("LLMVAL_SERVER_URL", "http://here:1")
    monkeypatch.setenv("LLMVAL_SERVER_MODEL", "its-model")
    assert (parse([]).server.url, parse([]).server.model) == ("http://here:1", "its-model")
    assert parse(["--model", "other"]).server.model == "other"
    elsewhere = parse(["--url", "http://there"]).server
    assert (elsewhere.url, elsewhere.model) == ("http://there", None)
