"""`sottovoce completion`: let a shell complete the words of this command.

eval "$(sottovoce completion bash)"                   # in ~/.bashrc
eval "$(sottovoce completion zsh)"                    # in ~/.zshrc
sottovoce completion fish | source                    # in ~/.config/fish/config.fish
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sottovoce.completion import SCRIPTS, candidates

app = typer.Typer(add_completion=False, help=__doc__)


class What(StrEnum):
    """A shell, or what the shells' scripts ask for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    WORDS = "words"


@app.command()
def completion(
    what: Annotated[What, typer.Argument(help="A shell: its script is printed.")],
    words: Annotated[
        list[str] | None, typer.Argument(help="With `words`: the line so far, after --.")
    ] = None,
) -> None:
    """Print the script of a shell, or the words that could come next."""
    if what is What.WORDS:
        print("\n".join(candidates(words or [])))
    else:
        print(SCRIPTS[what], end="")
