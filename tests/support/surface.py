"""What the code shows to the outside, read out of the code: codes, endpoints, events, settings."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_CODE = re.compile(r"[a-z]+(_[a-z0-9]+)*")
_CODE_AT = {"ApiError": 2, "InvalidRequest": 0, "EngineFailure": 0, "_encode": 2}
"""Which argument of a call is a code; in a call of `super().__init__` each may be."""

_TYPES = {
    "invalid_request_error", "server_error", "rate_limit_error", "sottovoce_error", "model",
    "authentication_error",
}  # fmt: skip
_CODES_IN = ("client", "server", "sottovoce")


def error_codes():
    """Every code that an error object of ours may carry."""
    found = set()
    for folder in _CODES_IN:
        for path in (ROOT / folder).rglob("*.py"):
            found |= set(_codes(ast.parse(path.read_text())))
    return found


def _codes(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = _name(node.func)
            at = _CODE_AT.get(name)
            values = (
                node.args
                if name == "__init__"
                else node.args[at : at + 1]
                if at is not None
                else []
            )
            yield from _words(values)
            yield from _words(each.value for each in node.keywords if each.arg == "code")
        elif isinstance(node, ast.Assign) and _name(node.targets[0]) == "code":
            yield from _words([node.value])
        elif isinstance(node, ast.Assign) and _name(node.targets[0]) == "_HTTP_MESSAGES":
            yield from _words(pair.elts[0] for pair in node.value.values)


def _words(values):
    for value in values:
        text = value.value if isinstance(value, ast.Constant) else None
        if isinstance(text, str) and _CODE.fullmatch(text) and text not in _TYPES:
            yield text


def _name(node):
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", None)


_ROUTES = {
    "proxy": ("client/proxy.py", "client/page/routes.py"),
    "relay": ("relay/app.py", "relay/stock.py"),
    "issuer": ("issuer/app.py", "issuer/returning.py"),
    "spent-token store": ("issuer/spent.py",),
    "log": ("transparency/app.py",),
    "witness": ("transparency/witness.py",),
    "worker": ("server/front.py",),
}
_ROUTE = re.compile(r'(?:Route\(|@routes\.(?:get|post)\()\s*("[^"]+"|[A-Z_]+)')


def endpoints():
    """Party to its paths, as the source has them; a named constant is looked up."""
    return {
        party: {_path(found) for file in files for found in _ROUTE.findall(_read(file))}
        for party, files in _ROUTES.items()
    }


def _read(file):
    return (ROOT / file).read_text()


def _path(found):
    if found.startswith('"'):
        return found.strip('"')
    for path in ROOT.rglob("*.py"):
        if value := re.search(rf'^{found} = "([^"]+)"', path.read_text(), re.MULTILINE):
            return value[1]
    raise LookupError(found)


def options(command, words=()):
    """Yield each command that can be run with its options, as (words, option names)."""
    inner = getattr(command, "commands", None)
    if inner is None:
        names = [
            name
            for each in command.params
            for name in (*each.opts, *each.secondary_opts)
            if name.startswith("--") and name != "--help" and not getattr(each, "hidden", False)
        ]
        yield words, names
        return
    for name, each in inner.items():
        if not each.hidden:
            yield from options(each, (*words, name))
