"""llama.cpp with the same weights, as a child process that takes its turns."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from sottovoce.bench.engine_rounds import BenchFailed, LeftOut, Prompts, Run, Way

_HERE = Path(__file__).parent
_NEEDED = "import gguf, llama_cpp, numpy"


class Llama:
    """One model file in one child process, which sleeps while it has no job."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._jobs = cast("IO[str]", process.stdin)
        self._answers = cast("IO[str]", process.stdout)
        self._answer()  # it is loaded

    def decoders(self, prompts: Prompts, count: int) -> Mapping[str, Way]:
        """See `Decoder`; with and without fused attention, one KV buffer or one a sequence."""
        wish = {"do": "decode", "prompts": prompts, "count": count}
        buffers = (True, False) if len(prompts) > 1 else (True,)
        return {
            f"{_name(flash)}{'' if unified else ', a buffer a sequence'}": self._way(
                {**wish, "flash": flash, "unified": unified}
            )
            for flash in (True, False)
            for unified in buffers
        }

    def prefills(self, prompt: Sequence[int]) -> Mapping[str, Way]:
        """See `Prefiller`."""
        wish = {"do": "prefill", "prompts": [prompt], "unified": True}
        return {_name(flash): self._way({**wish, "flash": flash}) for flash in (True, False)}

    def _way(self, job: Mapping[str, Any]) -> Way:
        return lambda: self._run(job)

    def _run(self, job: Mapping[str, Any]) -> Run:
        self._jobs.write(json.dumps(job) + "\n")
        self._jobs.flush()
        answer = self._answer()
        return Run(answer["rate"], tuple(answer["first_ids"]))

    def _answer(self) -> Any:  # noqa: ANN401 - JSON
        text = self._answers.readline()
        if not text:
            raise BenchFailed(f"llama.cpp ended with status {self._process.wait()}")
        return json.loads(text)


def _name(flash: bool) -> str:
    return "flash attention" if flash else "no flash attention"


@contextmanager
def running_llama(
    interpreter: str | None, model: Path, precision: str, threads: int
) -> Iterator[Llama]:
    """Write the model as GGUF, if that was not done, and run llama.cpp on it.

    Args:
        interpreter: a Python that has llama-cpp-python and gguf.
        model: the folder with the safetensors; the file is written beside it.
        precision: "bf16" or "q8_0".
        threads: for prompts and for decoding.

    Raises:
        LeftOut: there is no such interpreter.
    """
    if interpreter is None:
        raise LeftOut("no interpreter with llama_cpp was named (--llama)")
    _check(interpreter)
    file = model.with_name(f"{model.name}-{precision}.gguf")
    if not file.exists():
        unfinished = file.with_suffix(".unfinished")
        write = _command(interpreter, "engine_gguf.py", str(model), str(unfinished), precision)
        subprocess.run(write, check=True, stdout=sys.stderr)  # noqa: S603 - likewise
        unfinished.rename(file)
    command = _command(interpreter, "engine_llama_child.py", str(file), str(threads))
    with subprocess.Popen(  # noqa: S603 - the interpreter asked for
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield Llama(process)
        finally:
            process.kill()


def _check(interpreter: str) -> None:
    try:
        command = [interpreter, "-I", "-c", _NEEDED]
        done = subprocess.run(command, check=False, capture_output=True)  # noqa: S603 - likewise
    except OSError as error:
        raise LeftOut(f"{interpreter} cannot be run: {error.strerror}") from None
    if done.returncode:
        raise LeftOut(f"{interpreter} has no llama_cpp, or no gguf or numpy")


def _command(interpreter: str, program: str, *arguments: str) -> list[str]:
    # Isolated: our folder is not on its path, so that no module of ours hides one of its own.
    return [interpreter, "-I", str(_HERE / program), *arguments]
