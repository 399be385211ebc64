"""The model in the box: a small chat model trained from nothing on dialogues this project writes.

Reading order: `facts` and `words` (what it may know), `grammar` (how a question is worded),
`skills` (one exchange of each kind), `corpus` (whole dialogues, seeded), `chat` (roles as text),
`tokenizer`, `packing`, `train`, `export`, `evaluate`. The shipped folder is `MODEL_FOLDER`.
"""

from __future__ import annotations

from pathlib import Path

MODEL_FOLDER = Path(__file__).parent / "model"
