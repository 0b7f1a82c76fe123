"""Decoders of JSON, asked for by several threads at once."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import drypoint
from drypoint.decoders import json_decoder

_SCRIPT = """
import sys, threading
import msgspec
from drypoint.decoders import json_decoder

def naive(shape):
    return msgspec.json.Decoder(shape)

asked = {"ours": json_decoder, "naive": naive}[sys.argv[1]]
sys.setswitchinterval(1e-6)
for attempt in range(30):
    class Inner(msgspec.Struct):
        numbers: "list[int]"
        named: "dict[str, int]"
    class Middle(msgspec.Struct):
        one: "Inner"
        more: "list[Inner]"
    class Outer(msgspec.Struct):
        one: "Middle"
        more: "list[Middle]"
    inner = '{"numbers": [1], "named": {"a": 2}}'
    middle = '{"one": %s, "more": [%s]}' % (inner, inner)
    text = '{"one": %s, "more": [%s]}' % (middle, middle)
    start, found = threading.Barrier(4), []
    def decode():
        start.wait()
        found.append(asked(Outer).decode(text).more[0].more[0].numbers)
    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[1]] * 4
print("done")
"""


def ended(how: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", _SCRIPT, how], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_several_threads_may_be_the_first_to_ask() -> None:
    assert ended("ours") == (0, "done\n")


def test_without_it_they_crash_or_fail() -> None:
    # The day this fails, msgspec has fixed it, and the module can go.
    assert any(ended("naive") != (0, "done\n") for _ in range(5))


def test_a_decoder_is_made_once() -> None:
    assert json_decoder(list[int]) is json_decoder(list[int])


def test_nothing_else_makes_decoders() -> None:
    package = Path(drypoint.__file__).parent
    found = []
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and path.name not in ("decoders.py", "go_json.py"):
                called = ast.unparse(node.func)
                typed = any(keyword.arg == "type" for keyword in node.keywords)
                if (
                    called.endswith("json.Decoder")
                    or (called == "msgspec.json.decode" and typed)
                    or "msgspec.convert" in called
                ):
                    found.append(f"{path}:{node.lineno}")
    assert found == []
