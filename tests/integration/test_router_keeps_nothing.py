"""Once a call is over the router holds none of it: what is left is memory that Python has freed."""

import gc
import secrets
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.node import wait_for
from tests.router_parts import TOKEN, RunningRouter, alias_file

HALVES = (secrets.token_hex(6), secrets.token_hex(6))  # nothing else in this process has it whole
# Provider and caller, in a process of their own: only the router is in ours. Connections stay open.
OTHERS = """
import sys, httpx2
from tests.fake_provider import FakeProvider
word = sys.argv[1] + sys.argv[2]
echo = {"kind": word, "message": "cannot bake " + word}
chunk = {"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": "stop"}]}
script = [{"content": word, "usage": [1, 2]}, {"stream": [chunk]}, {"status": 400, **echo},
          {"status": 500, **echo}, {"garbage": word.encode()}]
patient = httpx2.HTTPTransport(retries=9)
with FakeProvider(script) as provider, httpx2.Client(transport=patient) as http:
    print(provider.url, flush=True)
    url, token = input(), sys.argv[3]
    for turn in range(len(script)):
        body = {"model": "mana/fast-text", "messages": [{"role": "user", "content": word}]}
        answer = http.post(f"{url}/v1/chat/completions", json=body | {"stream": turn == 1},
                           headers={"Authorization": f"Bearer {token}"})
        print(answer.status_code, flush=True)
    input()
"""


def test_no_object_of_the_router_holds_prompt_answer_or_error_of_a_call_that_is_over(
    tmp_path: Path,
) -> None:
    with others() as (said, tell):
        url = next(said)
        with RunningRouter(tmp_path, alias_file(tmp_path, url, url, near_only="yes")) as router:
            tell(router.url)
            assert [next(said) for _ in range(5)] == ["200", "200", "400", "503", "503"]
            wait_for(lambda: not holders(), "the end of the last call, after its answer")
            kept: list[Any] = [{"body": "".join(HALVES)}]
            assert len(holders()) == 1, "one that is kept is found"
            kept.clear()
            tell("")


@contextmanager
def others() -> Generator[Any]:
    """What provider and caller say line by line, and how they are told something."""
    with subprocess.Popen(
        [sys.executable, "-c", OTHERS, *HALVES, TOKEN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as running:
        assert running.stdout is not None
        assert running.stdin is not None
        stdin = running.stdin

        def tell(text: str) -> None:
            stdin.write(f"{text}\n")

        yield (line.strip() for line in running.stdout), tell


def holders() -> list[str]:
    """Types of the objects that hold the word, also those that the collector does not track."""
    gc.collect()
    word = "".join(HALVES)
    found: list[str] = []
    left, seen = gc.get_objects(), {id(word)}
    while left:
        holder = left.pop()
        for held in gc.get_referents(holder):
            if id(held) not in seen:
                seen.add(id(held))
                left.append(held)
                found += [type(holder).__name__] * _holds(held, word)
    return found


def _holds(held: object, word: str) -> bool:
    if isinstance(held, str):
        return word in held
    return isinstance(held, bytes | bytearray) and word.encode() in held
