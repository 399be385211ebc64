import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_what_a_capsule_imports_brings_no_torch_along():
    program = (
        "import sys, engine.connection, engine.slot, engine.types, engine.digest, engine.policy,"
        " engine.config; print([name for name in ('torch', 'numpy', 'transformers', 'cbor2',"
        " 'cryptography') if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"
