import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALIAS_FILE = ROOT / "mana_actors" / "llm" / "router" / "aliases" / "aliases.yaml"


def check(*folders: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "scripts" / "check_model_names.py"), *map(str, folders)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_our_packages_name_no_model():
    done = check()
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", 'MODEL = "groq/llama-3.3-70b"'),
        ("b.py", 'def ask():\n    return f"openrouter/{x}/y openai/gpt-4o"'),
        ("c.py", 'MODEL = b"Ollama/gemma3:4b"'),
        ("d.sql", "SELECT 'google/gemini-2.5-flash'"),
        ("e.html", "<p>together/x</p>"),
    ],
)
def test_a_model_anywhere_is_found_with_its_place(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text(text)
    done = check(tmp_path)
    assert done.returncode == 1
    assert f"{name}:{text.count(chr(10)) + 1}: " in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        '"""Such as groq/llama."""',
        "# groq/llama",
        'ALIAS = "mana/fast-text"',
        'TYPE = "application/json"',
        'URL = "https://example.test/groq/llama"',
        'SENTENCE = "ollama or groq"',
    ],
)
def test_prose_aliases_and_addresses_are_no_models(tmp_path: Path, text: str):
    (tmp_path / "a.py").write_text(text)
    assert check(tmp_path).returncode == 0


def test_make_check_runs_it():
    assert "scripts/check_model_names.py" in (ROOT / "Makefile").read_text()
    assert ALIAS_FILE.is_file()
