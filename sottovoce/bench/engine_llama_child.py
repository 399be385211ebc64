"""llama.cpp in a process of its own: jobs come in, times and first ids go out, a JSON line each.

A program run by an interpreter that has `llama-cpp-python` and knows nothing of ours:

    python -I engine_llama_child.py FILE THREADS

It calls llama.cpp's own functions (a batch a step, the most likely ids by numpy), and not the
package's class for completions, which spends more time beside them. A job says `do` (decode or
prefill), `prompts`, `count`, `flash` (fused attention) and `unified` (one KV buffer for all).
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from typing import Any

import llama_cpp as api  # type: ignore[import-not-found]
import numpy as np

_UBATCH = 512
_PAD = 256

Job = dict[str, Any]


@api.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(_level: int, _text: bytes, _data: object) -> None:
    """Take what llama.cpp has to say."""


class Session:
    """A model, and the context that the last job needed."""

    def __init__(self, file: str, threads: int) -> None:
        api.llama_log_set(_silent, ctypes.c_void_p())
        api.llama_backend_init()
        self._model = api.llama_model_load_from_file(
            file.encode(), api.llama_model_default_params()
        )
        if not self._model:
            raise SystemExit("llama.cpp does not load the file")
        self._vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self._model))
        self._threads = threads
        self._context: Any = None
        self._kind: tuple[object, ...] = ()
        self._computed: list[list[int]] = []

    def decode(self, job: Job) -> Job:
        """Decode `count` ids after each prompt's first; timed between these and the last."""
        prompts, count = job["prompts"], job["count"]
        length = len(prompts[0])
        self._prepare(job, len(prompts), length + count + 1)
        self._keep(prompts, length - 1)
        batch = self._batch(len(prompts))
        ids = np.array([prompt[-1] for prompt in prompts], np.int32)
        times, first = [], ids
        for position in range(length - 1, length + count):
            ids = self._step(batch, ids, position)
            times.append(time.perf_counter())
            first = ids if len(times) == 1 else first
        api.llama_batch_free(batch)
        seconds = times[-1] - times[0]
        return {"rate": len(prompts) * count / seconds, "first_ids": first.tolist()}

    def prefill(self, job: Job) -> Job:
        """Compute a prompt and find its first id."""
        (prompt,) = job["prompts"]
        self._prepare(job, 1, len(prompt) + 1)
        self._forget()
        started = time.perf_counter()
        self._compute([prompt], wanted=True)
        first = int(self._logits(1)[0].argmax())
        return {"rate": len(prompt) / (time.perf_counter() - started), "first_ids": [first]}

    def _prepare(self, job: Job, sequences: int, length: int) -> None:
        length = -(-length // _PAD) * _PAD
        kind = (sequences, length, job["flash"], job["unified"])
        if kind == self._kind:
            return
        if self._context:
            api.llama_free(self._context)
        params = api.llama_context_default_params()
        params.n_ctx = sequences * length
        params.n_batch = params.n_ctx
        params.n_ubatch = min(_UBATCH, params.n_ctx)
        params.n_seq_max = params.n_outputs_max = sequences
        params.n_threads = params.n_threads_batch = self._threads
        params.flash_attn_type = int(job["flash"])
        params.kv_unified = job["unified"]
        params.no_perf = True
        self._context = api.llama_init_from_model(self._model, params)
        if not self._context:
            raise SystemExit("llama.cpp makes no context")
        self._kind, self._computed = kind, []

    def _keep(self, prompts: list[list[int]], length: int) -> None:
        """Have K and V of exactly the first `length` ids of each prompt."""
        if prompts == self._computed:
            memory = api.llama_get_memory(self._context)
            for sequence in range(len(prompts)):
                if not api.llama_memory_seq_rm(memory, sequence, length, -1):
                    raise SystemExit("llama.cpp does not go back")
            return
        self._forget()
        for sequence, prompt in enumerate(prompts):
            self._compute([prompt[:length]], wanted=False, first=sequence)
        self._computed = prompts

    def _forget(self) -> None:
        api.llama_memory_clear(api.llama_get_memory(self._context), True)
        self._computed = []

    def _compute(self, prompts: list[list[int]], *, wanted: bool, first: int = 0) -> None:
        """Compute prompts from their beginning; the last id's logits of each, if wanted."""
        total = sum(len(prompt) for prompt in prompts)
        if not total:
            return
        batch = api.llama_batch_init(total, 0, 1)
        at = 0
        for sequence, prompt in enumerate(prompts, first):
            for position, token in enumerate(prompt):
                batch.token[at], batch.pos[at] = token, position
                batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
                batch.logits[at] = wanted and position == len(prompt) - 1
                at += 1
        batch.n_tokens = total
        self._run(batch)
        api.llama_batch_free(batch)

    def _batch(self, sequences: int) -> Any:  # noqa: ANN401 - a C structure
        batch = api.llama_batch_init(sequences, 0, 1)
        for row in range(sequences):
            batch.n_seq_id[row], batch.seq_id[row][0], batch.logits[row] = 1, row, True
        batch.n_tokens = sequences
        return batch

    def _step(self, batch: Any, ids: Any, position: int) -> Any:  # noqa: ANN401
        rows = len(ids)
        np.ctypeslib.as_array(batch.token, (rows,))[:] = ids
        np.ctypeslib.as_array(batch.pos, (rows,))[:] = position
        self._run(batch)
        return self._logits(rows).argmax(axis=1)

    def _run(self, batch: Any) -> None:  # noqa: ANN401
        if api.llama_decode(self._context, batch):
            raise SystemExit("llama.cpp does not compute a batch")

    def _logits(self, rows: int) -> Any:  # noqa: ANN401
        pointer = api.llama_get_logits(self._context)
        return np.ctypeslib.as_array(pointer, (rows, self._vocabulary))


def main() -> None:
    """Answer jobs until the input ends."""
    session = Session(sys.argv[1], int(sys.argv[2]))
    print(json.dumps({"version": api.__version__}), flush=True)
    for text in sys.stdin:
        job = json.loads(text)
        answer = session.decode(job) if job["do"] == "decode" else session.prefill(job)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
