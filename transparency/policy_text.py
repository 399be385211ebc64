"""Log policies as text (c2sp.org/tlog-policy), for and from the tools of others.

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> all|any|<k> <name>...
    quorum <name>

Of what the format can say a `LogPolicy` is the part with one log and k of n witnesses: a quorum
that is one witness, or one group of witnesses. Anything else is refused, never approximated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from transparency.errors import Malformed
from transparency.policy import LogPolicy
from transparency.text import decode_decimal

MAX_LENGTH = 1 << 16
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_SPACE = re.compile(r"[ \t]+")
_DEFAULT_AGE_S = 86400


@dataclass
class _Lines:
    """What the lines read so far have defined."""

    logs: list[str] = field(default_factory=list)
    witnesses: dict[str, str] = field(default_factory=dict)
    groups: dict[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    quorum: str | None = None

    def read(self, words: list[str]) -> None:
        keyword, arguments = words[0], words[1:]
        if keyword == "log" and len(arguments) in {1, 2}:
            self.logs.append(arguments[0])
        elif keyword == "witness" and len(arguments) in {2, 3}:
            self.witnesses[self._new(arguments[0])] = arguments[1]
        elif keyword == "group" and len(arguments) >= 3:
            members = self._members(arguments[2:])
            threshold = _threshold(arguments[1], len(members))
            self.groups[self._new(arguments[0])] = (threshold, members)
        elif keyword == "quorum" and len(arguments) == 1 and self.quorum is None:
            self.quorum = self._defined(arguments[0])
        else:
            raise Malformed("not a line of a log policy")

    def _new(self, name: str) -> str:
        if name == "none" or name in self.witnesses or name in self.groups:
            raise Malformed("a name in a log policy that is taken")
        return name

    def _defined(self, name: str) -> str:
        if name not in self.witnesses and name not in self.groups:
            raise Malformed("a name in a log policy that is not defined before, or none")
        return name

    def _members(self, names: list[str]) -> tuple[str, ...]:
        if len(set(names)) != len(names) or any(name not in self.witnesses for name in names):
            raise Malformed("a group of anything but distinct witnesses")
        return tuple(names)


def encode_policy(policy: LogPolicy) -> str:
    """Return the text; witnesses are called w1, w2, ... in the policy's order."""
    names = [f"w{number}" for number in range(1, len(policy.witness_vkeys) + 1)]
    witnesses = zip(names, policy.witness_vkeys, strict=True)
    lines = [
        f"log {policy.log_vkey}",
        *(f"witness {name} {vkey}" for name, vkey in witnesses),
        f"group witnesses {policy.quorum} {' '.join(names)}",
        "quorum witnesses",
    ]
    return "\n".join(lines) + "\n"


def parse_policy(text: str, *, max_cosignature_age_s: int = _DEFAULT_AGE_S) -> LogPolicy:
    """Parse a text. How old a cosignature may be is not part of the format.

    Raises:
        Malformed: not a log policy, or one that says more than one log and k of n witnesses; a
            witness outside the quorum is more, too. Keys are refused as `LogPolicy` does.
    """
    if len(text) > MAX_LENGTH or _CONTROL.search(text) or not text.endswith("\n"):
        raise Malformed("a log policy is lines of text without control characters")
    read = _Lines()
    for line in text.removesuffix("\n").split("\n"):
        words = _SPACE.split(line.strip(" \t"))
        if words != [""] and not words[0].startswith("#"):
            read.read(words)
    if len(read.logs) != 1 or read.quorum is None:
        raise Malformed("a log policy with another number of logs or quorums than one")
    threshold, members = read.groups.get(read.quorum, (1, (read.quorum,)))
    if set(members) != set(read.witnesses):
        raise Malformed("a log policy with witnesses outside its quorum")
    vkeys = tuple(read.witnesses[name] for name in members)
    return LogPolicy(read.logs[0], vkeys, threshold, max_cosignature_age_s)


def _threshold(word: str, members: int) -> int:
    if word in {"any", "all"}:
        return 1 if word == "any" else members
    threshold = decode_decimal(word)
    if not 1 <= threshold <= members:
        raise Malformed("a group with a threshold that is none")
    return threshold
