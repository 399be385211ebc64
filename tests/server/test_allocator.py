"""Memory is overwritten when it is freed, or nothing is served."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from server.environment import FIXED as SCRUBBING

NOT_ENOUGH = [
    {},
    {"PYTHONMALLOC": "malloc"},
    {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.perturb=165"},
    {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"},
    {"GLIBC_TUNABLES": SCRUBBING["GLIBC_TUNABLES"]},
]
CHECK = "from server.allocator import check_scrubbing; check_scrubbing()"


def run(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONMALLOC", "GLIBC_TUNABLES")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_check_passes_under_the_scrubbing_allocator():
    ran = run(CHECK, SCRUBBING)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("environment", NOT_ENOUGH)
def test_the_check_refuses_when_any_part_is_missing(environment):
    ran = run(CHECK, environment)
    assert "HygieneError: the allocator does not overwrite what it frees" in ran.stderr


@pytest.mark.parametrize("environment", NOT_ENOUGH)
def test_a_command_starts_itself_again_under_the_scrubbing_allocator(environment):
    code = "from server.allocator import ensure_scrubbing; ensure_scrubbing(); print('scrubs')"
    ran = run(code, environment)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "scrubs\n", "")


def test_an_allocator_that_only_claims_to_scrub_is_found_out():
    # The words are there, but a preloaded allocator or another libc would not have read them.
    code = (
        "from server import allocator, environment;"
        f"environment.given = lambda: {SCRUBBING!r}; allocator.ensure_scrubbing()"
    )
    assert "HygieneError" in run(code, {}).stderr
