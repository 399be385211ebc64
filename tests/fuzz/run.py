"""Fuzz every decoder for a bounded time: `python -m tests.fuzz.run [NAME ...]`, or `make fuzz`.

FUZZ_SECONDS says for how long each (20 by default). An input that makes a decoder raise what it
does not promise, accept a second encoding, or take longer than ten seconds is printed in hex and
kept in FUZZ_DIRECTORY (`.fuzz`), beside the corpora, which grow from one run to the next.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.target import TOKENS, Target
from tests.fuzz.targets import TARGETS

SECONDS = int(os.environ.get("FUZZ_SECONDS", "20"))
DIRECTORY = Path(os.environ.get("FUZZ_DIRECTORY", ".fuzz"))
LONGEST = 8192
"""Bytes of the longest input. Every format shows all its parts in less."""

OPTIONS = ("-timeout=10", "-rss_limit_mb=2048", f"-max_len={LONGEST}", "-print_final_stats=1")
MAX_WORD = 64  # libFuzzer takes no longer entries in a dictionary


@dataclass(frozen=True)
class Outcome:
    name: str
    runs: str
    report: str
    artefacts: tuple[Path, ...]

    @property
    def failed(self) -> bool:
        return bool(self.report)


def fuzz(target: Target) -> Outcome:
    """Fuzz one decoder in a process of its own."""
    corpus, found = DIRECTORY / target.name / "corpus", DIRECTORY / target.name / "found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed{number}").write_bytes(seed)
    before = set(found.iterdir())
    command = [
        *(sys.executable, "-m", "tests.fuzz.one", target.name, *OPTIONS),
        *(f"-max_total_time={SECONDS}", f"-artifact_prefix={found}/"),
        *(f"-dict={dictionary()}", str(corpus)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    # The exception is on standard output, libFuzzer's own words on standard error.
    said = (*done.stdout.splitlines()[-25:], *done.stderr.splitlines()[-12:])
    report = "" if done.returncode == 0 else "\n".join(said)
    return Outcome(
        target.name, runs_of(done.stderr), report, tuple(sorted(set(found.iterdir()) - before))
    )


def runs_of(stderr: str) -> str:
    label = "stat::number_of_executed_units:"
    lines = [line for line in stderr.splitlines() if line.startswith(label)]
    return lines[-1].removeprefix(label).strip() if lines else "?"


def dictionary() -> Path:
    path = DIRECTORY / "tokens.dict"
    words = ("".join(f"\\x{byte:02x}" for byte in word) for word in TOKENS if len(word) <= MAX_WORD)
    path.write_text("".join(f'"{word}"\n' for word in words))
    return path


def show(outcome: Outcome) -> None:
    print(
        f"{outcome.name}: {outcome.runs} runs, {'FAILED' if outcome.failed else 'ok'}", flush=True
    )
    if outcome.failed:
        print(outcome.report)
    for artefact in outcome.artefacts:
        print(f"  {artefact}: {artefact.read_bytes().hex()}")


def main(names: list[str]) -> int:
    if find_spec("atheris") is None:
        print("atheris is not installed: pip install '.[fuzz]'")
        return 2
    targets = [TARGETS[name] for name in names or TARGETS]
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    dictionary()
    failed = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as executor:
        for outcome in executor.map(fuzz, targets):
            show(outcome)
            failed += [outcome.name] * outcome.failed
    print(f"{len(targets)} decoders, {SECONDS} s each: {', '.join(failed) or 'nothing'} found")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
