"""Every example, run as a person would run it, against every party as a real process."""

import importlib.util
from pathlib import Path

import pytest
from transcript import Shell

from tests.interop.conftest import HERE as INTEROP
from tests.interop.conftest import MISSING, installed

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(300)]

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMANDS = {
    "curl.sh": "sh curl.sh",
    "openai_proxy.py": "python openai_proxy.py",
    "openai_inside.py": 'python openai_inside.py "$UP/client.toml"',
    "openai_async.py": 'python openai_async.py "$UP/client.toml"',
    "langchain_chat.py": "python langchain_chat.py",
    "openai.mjs": "node openai.mjs",
    "ai_sdk.mjs": "node ai_sdk.mjs",
}
SHOWN = {
    "curl.sh": ('"attestation":{"receipt"', "data: [DONE]"),
    "openai_async.py": ("What is a log?", "(verified, node "),
}
VERDICT = ("pass", "log-checkpoint: ", "receipt")


@pytest.fixture
def shell(stack, tmp_path):
    return Shell(tmp_path, stack)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_gets_a_verified_answer(name, shell, tmp_path):
    if name.endswith(".mjs"):
        if not installed():
            pytest.skip(MISSING)
        (tmp_path / "node_modules").symlink_to(INTEROP / "node_modules")
    if name == "langchain_chat.py" and importlib.util.find_spec("langchain_openai") is None:
        pytest.skip("langchain-openai is not installed: pip install langchain-openai")
    (tmp_path / name).write_text(shell.translate((EXAMPLES / name).read_text()))
    status, printed = shell.run(COMMANDS[name])
    assert status == 0, printed
    for part in SHOWN.get(name, VERDICT):
        assert part in printed, printed


def test_every_example_is_run_and_listed():
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in {".py", ".mjs", ".sh"}}
    assert files == set(COMMANDS)
    listed = (EXAMPLES / "README.md").read_text()
    assert all(f"| `{name}` |" in listed for name in files)
