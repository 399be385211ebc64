"""Where a secret is compared, the time it takes says nothing about how much of it was right."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IN_CONSTANT_TIME = {
    "server/direct_capsule.py": 1,  # API keys
    "wire/tls13.py": 1,  # Finished
    "wire/tag_check.py": 1,  # the tag of a request
    "client/direct.py": 1,  # the pin
}
"""Every comparison with `hmac.compare_digest`. Other tags are compared inside `cryptography`."""
SECRET = (
    "secret",
    "mac",
    "tag",
    "api_key",
    "password",
    "seed",
    "private",
    "bearer",
    "authorization",
)
PUBLIC = {
    ("wire/cbor.py", "tag"),  # of CBOR
    ("wire/hpke.py", "seed"),  # its length
    ("server/registration.py", "seed"),  # its length; of the simulated platform
}
"""What only sounds like a secret, or is not compared itself."""


def sources():
    for package in ("server", "wire"):
        yield from sorted((ROOT / package).rglob("*.py"))


def words(node):
    """The names in an expression."""
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} | {
        each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)
    }


@pytest.mark.parametrize("name", IN_CONSTANT_TIME)
def test_these_compare_in_constant_time(name):
    assert (ROOT / name).read_text().count("hmac.compare_digest(") == IN_CONSTANT_TIME[name]


def test_no_secret_is_compared_with_an_equals_sign():
    found = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Eq, ast.NotEq)):
                names = {word.lower().strip("_") for word in words(node)}
                found |= {
                    (str(path.relative_to(ROOT)), name)
                    for name in names
                    if any(name == secret or name.endswith(f"_{secret}") for secret in SECRET)
                }
    assert found == PUBLIC
