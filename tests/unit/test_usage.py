"""What a service says that an answer cost is read in every dialect, and only if it can be true."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_actors.llm.usage import MOST_BYTES_PER_TOKEN, MOST_TOKENS, Usage, usage_of


def answer(content: object = "fertig", **members: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": content}}], **members}


@pytest.mark.parametrize(
    ("members", "usage"),
    [
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 4}}, Usage(9, 4, 13)),
        (
            {"usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 50}},
            Usage(9, 4, 50),
        ),
        ({"usage": {"total_tokens": 50}}, Usage(0, 0, 50)),
        ({"usage": {"prompt_tokens": 9, "total_tokens": 50}}, Usage(9, 0, 50)),
        ({"usage": {"completion_tokens": 4, "total_tokens": 50}}, Usage(0, 4, 50)),
        ({"usage": {"prompt_tokens": "9", "completion_tokens": 4.0}}, Usage(9, 4, 13)),
        (
            {"usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": None}},
            Usage(9, 4, 13),
        ),
        ({"usage": {"input_tokens": 9, "output_tokens": 4}}, Usage(9, 4, 13)),
        (
            {
                "usage": {
                    "input_tokens": 9,
                    "output_tokens": 4,
                    "cache_read_input_tokens": 100,
                    "cache_creation_input_tokens": 20,
                }
            },
            Usage(129, 4, 133, 100),
        ),
        (
            {
                "usageMetadata": {
                    "promptTokenCount": 9,
                    "candidatesTokenCount": 4,
                    "thoughtsTokenCount": 30,
                    "totalTokenCount": 43,
                    "cachedContentTokenCount": 5,
                }
            },
            Usage(9, 34, 43, 5),
        ),
        ({"prompt_eval_count": 9, "eval_count": 4}, Usage(9, 4, 13)),
        ({"usage": {"inputTokens": 9, "outputTokens": 4, "totalTokens": 13}}, Usage(9, 4, 13)),
        ({"usage": {"tokens": {"input_tokens": 9, "output_tokens": 4}}}, Usage(9, 4, 13)),
        ({"x_groq": {"usage": {"prompt_tokens": 9, "completion_tokens": 4}}}, Usage(9, 4, 13)),
        (
            {
                "usage": {
                    "prompt_tokens": 33,
                    "completion_tokens": 7163,
                    "total_tokens": 7196,
                    "citation_tokens": 20_016,
                    "reasoning_tokens": 73_997,
                }
            },
            Usage(20_049, 81_160, 101_209),
        ),
        (
            {"usage": {"prompt_tokens": 9, "completion_tokens": 40, "reasoning_tokens": 30}},
            Usage(9, 40, 49),
        ),
        (
            {
                "usage": {
                    "prompt_tokens": 9,
                    "completion_tokens": 4,
                    "prompt_tokens_details": {"cached_tokens": 6},
                }
            },
            Usage(9, 4, 13, 6),
        ),
        (
            {"usage": {"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 8}},
            Usage(9, 4, 13, 8),
        ),
        # More from the cache than there was: no cheaper than all of it.
        (
            {"usage": {"prompt_tokens": 9, "completion_tokens": 4, "cached_tokens": 99}},
            Usage(9, 4, 13, 9),
        ),
        # Two dialects at once, one of them with zeros.
        (
            {
                "usage": {
                    "prompt_tokens": 0,
                    "completion_tokens": 0,
                    "input_tokens": 9,
                    "output_tokens": 4,
                }
            },
            Usage(9, 4, 13),
        ),
    ],
)
def test_every_dialect_is_read(members: dict[str, Any], usage: Usage):
    assert usage_of(answer(**members)) == usage


@pytest.mark.parametrize("usage", [None, "n/a", [], {}, {"prompt_tokens": None}, {"queue_time": 1}])
def test_silence_is_no_report(usage: object):
    assert usage_of(answer(usage=usage)) is None


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_tokens": 0, "completion_tokens": 40},
        {"prompt_tokens": 40, "completion_tokens": 0},
        {"prompt_tokens": 40},
        {"completion_tokens": 40},
        {"prompt_tokens": 40, "completion_tokens": 40, "total_tokens": 79},
        {"prompt_tokens": 40, "completion_tokens": 40, "total_tokens": 0},
        {"prompt_tokens": -1, "completion_tokens": 40},
        {"prompt_tokens": 40, "completion_tokens": -40, "total_tokens": 80},
        {"prompt_tokens": True, "completion_tokens": 40},
        {"prompt_tokens": 40.5, "completion_tokens": 40},
        {"prompt_tokens": 40, "completion_tokens": "viele"},
        {"prompt_tokens": MOST_TOKENS + 1, "completion_tokens": 40},
        {"prompt_tokens": [40], "completion_tokens": 40},
        {"total_tokens": 1},
    ],
)
def test_what_cannot_be_is_no_report(usage: dict[str, Any]):
    found = usage_of(answer(usage=usage))
    assert found is not None
    assert not found.is_possible


def test_an_answer_has_at_least_the_tokens_that_its_text_needs():
    usage = {"prompt_tokens": 9, "completion_tokens": 10}
    longest = "x" * (10 * MOST_BYTES_PER_TOKEN)
    assert _possible(answer(longest, usage=usage))
    assert not _possible(answer(longest + "x", usage=usage))
    call = {"function": {"name": "n", "arguments": longest}}
    for calls in ([call], [{"function": {"name": "n", "arguments": {"x": longest}}}]):
        message = {"content": None, "tool_calls": calls}
        assert not _possible({"choices": [{"message": message}], "usage": usage})
    parts = [{"type": "text", "text": longest}, {"type": "text", "text": "x"}]
    assert not _possible(answer(parts, usage=usage))


def test_an_answer_without_words_may_cost_nothing_but_its_prompt():
    for content in (None, "", " \n"):
        assert _possible(answer(content, usage={"prompt_tokens": 10, "completion_tokens": 0}))
        assert _possible(answer(content, usage={"prompt_tokens": 10}))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
_names = st.sampled_from(
    ["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "eval_count"]
)


@given(st.dictionaries(_names, _json, max_size=4), _json)
def test_whatever_is_reported_is_a_count_or_nothing(usage: dict[str, Any], content: object):
    found = usage_of(answer(content, usage=usage))
    if found is not None:
        assert 0 <= found.cached <= found.prompt <= found.total
        assert found.total >= found.prompt + found.completion
        assert not found.is_possible or found.total > 0


def _possible(given_: dict[str, Any]) -> bool:
    found = usage_of(given_)
    assert found is not None
    return found.is_possible
