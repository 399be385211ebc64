"""A worker runs under its own environment, whatever was set where it was started."""

from __future__ import annotations

import random
import string
from pathlib import Path

import pytest

from server.environment import ADMITTED, FIXED, measured
from tests.server.conftest import until

LOUD = """
PYTHONVERBOSE PYTHONMALLOCSTATS PYTHONFAULTHANDLER PYTHONTRACEMALLOC PYTHONPROFILEIMPORTTIME
PYTHONDEVMODE PYTHONINSPECT PYTHONDEBUG PYTHONASYNCIODEBUG PYTHONDUMPREFS PYTHONUNBUFFERED
PYTHONWARNDEFAULTENCODING PYTHONOPTIMIZE PYTHONPERFSUPPORT PYTHONNODEBUGRANGES
""".split()  # noqa: SIM905
PATHS = """
PYTHONSTARTUP PYTHONUSERBASE PYTHONBREAKPOINT HOME TMPDIR
TEMP XDG_CACHE_HOME HF_HOME HF_HUB_CACHE TRANSFORMERS_CACHE TORCH_HOME TORCH_EXTENSIONS_DIR
TORCHINDUCTOR_CACHE_DIR TORCH_LOGS_OUT TRITON_CACHE_DIR CUDA_CACHE_PATH SSLKEYLOGFILE SSL_CERT_FILE
SSL_CERT_DIR REQUESTS_CA_BUNDLE OPENSSL_CONF OPENSSL_MODULES LD_LIBRARY_PATH LD_AUDIT GCONV_PATH
LOCPATH NLSPATH RESOLV_HOST_CONF HOSTALIASES PROMETHEUS_MULTIPROC_DIR COVERAGE_PROCESS_START
KMP_REGISTER_LIB MALLOC_TRACE GOMP_STACKSIZE MKL_DEBUG_DIR TRITON_DUMP_DIR CUDA_COREDUMP_FILE
""".split()  # noqa: SIM905
ONES = """
TORCH_LOGS TORCH_SHOW_CPP_STACKTRACES TORCH_CPP_LOG_LEVEL TORCH_COMPILE_DEBUG TORCH_TRACE
TRANSFORMERS_VERBOSITY TOKENIZERS_PARALLELISM RUST_LOG RUST_BACKTRACE OMP_NUM_THREADS
OMP_DISPLAY_ENV KMP_SETTINGS KMP_AFFINITY MKL_VERBOSE DNNL_VERBOSE ONEDNN_VERBOSE NCCL_DEBUG
CUDA_LAUNCH_BLOCKING CUDA_ENABLE_COREDUMP_ON_EXCEPTION TRITON_PRINT_AUTOTUNING TRITON_INTERPRET
HF_HUB_OFFLINE HF_DEBUG HTTPX_LOG_LEVEL UVICORN_LOG_LEVEL UVICORN_RELOAD WEB_CONCURRENCY
MALLOC_PERTURB_ MALLOC_CHECK_ MALLOC_ARENA_MAX G_SLICE DEBUG LOG_LEVEL VERBOSE SOTTOVOCE_DEBUG
""".split()  # noqa: SIM905
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
SPY = """
import os, sys
with open(os.path.join(os.path.dirname(__file__), "ran"), "a") as file:
    file.write("again\\n")
"""


def hostile(folder):
    """Return an environment in which everything that libraries read, and much else, is set."""
    chance = random.Random(8)
    fuzzed = ("".join(chance.choices(string.ascii_uppercase + "_", k=12)) for _ in range(200))
    return {
        **dict.fromkeys(fuzzed, "1"),
        **dict.fromkeys((*LOUD, *ONES), "1"),
        **dict.fromkeys(PATHS, str(folder / "taken")),
        **dict.fromkeys(PROXIES, "http://127.0.0.1:9"),
        **dict.fromkeys(ADMITTED, "../../etc"),
        "GLIBC_TUNABLES": "glibc.malloc.tcache_count=64:glibc.rtld.nns=2",
        "PYTHONMALLOC": "debug",
        "PYTHONPATH": str(folder),
        "LD_DEBUG_OUTPUT": str(folder / "loader"),
        "TORCHELASTIC_ERROR_FILE": str(folder / "taken"),
    }


def test_only_what_is_on_the_page_and_in_its_form_is_kept(tmp_path):
    admitted = {
        "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "True", "CUDA_VISIBLE_DEVICES": "0,1",
    }  # fmt: skip
    assert measured(hostile(tmp_path)).keys() - ADMITTED.keys() == FIXED.keys()
    assert measured(hostile(tmp_path) | admitted) == admitted | FIXED
    assert admitted.keys() == ADMITTED.keys()
    assert measured(FIXED) == FIXED


@pytest.mark.parametrize("value", ["", "1\n", "1; x", "evil.example", "/dev/shm/x\0"])
def test_a_value_of_another_form_is_dropped(value):
    assert measured(dict.fromkeys(ADMITTED, value)) == FIXED


def test_a_worker_started_among_hostile_variables_has_none_of_them(
    start_worker,
    monkeypatch,
    tmp_path,
):
    (tmp_path / "sitecustomize.py").write_text(SPY)
    for name, value in hostile(tmp_path).items():
        if name != "PYTHONVERBOSE":  # says a thousand lines before anything of ours runs
            monkeypatch.setenv(name, value)
    with start_worker() as worker:
        monkeypatch.undo()  # of this process
        worker.wait_for("WorkerReady")
        until(worker.serves, worker=worker)
        pids = {worker.process.pid, *map(worker.pid, ("front", "keeper", "zygote", "engine"))}
        for pid in pids | worker.capsules():
            items = Path(f"/proc/{pid}/environ").read_text().replace("\0glibc.", ":glibc.")
            assert dict(item.split("=", 1) for item in items.split("\0") if item) == FIXED
        assert worker.ask({})[1].status == 200
        text = (worker.folder / "worker.log").read_text()
    # The interpreter that was first started read them; the one that serves did not.
    assert (tmp_path / "ran").read_text() == "again\n"
    assert not (tmp_path / "taken").exists()
    events = [line for line in text.splitlines() if line.startswith("{")]
    after = text[text.index(events[0]) :].splitlines()
    assert after == events
