"""The command as a person or a program calls it, in this process."""

import json
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from sottovoce.commands.verify import app


@dataclass
class Ended:
    """How a command ended."""

    code: int
    output: str

    @property
    def json(self):
        """The one JSON object it printed."""
        return json.loads(self.output)

    @property
    def error(self):
        """The code of the error it printed, and nothing but an error."""
        assert set(self.json) == {"error"}
        assert set(self.json["error"]) == {"code", "message"}
        return self.json["error"]["code"]

    def outcome(self, step):
        """The outcome of one step."""
        return next(s["outcome"] for s in self.json["verification"] if s["step"] == step)


@pytest.fixture
def verify(tmp_path):
    """Run `sottovoce verify` with `--json`. Bytes among the options become files.

    An option given a list is repeated; one that is True is a flag, one that is None is left out.
    """

    def written(value, name):
        if not isinstance(value, bytes):
            return str(value)
        path = tmp_path / name
        path.write_bytes(value)
        return str(path)

    def run(command, *, as_json=True, **options):
        arguments = [command, *(["--json"] if as_json else [])]
        for option, value in options.items():
            name = "--" + option.replace("_", "-")
            values = value if isinstance(value, list | tuple) else [value]
            for index, each in enumerate(values):
                if each is True:
                    arguments.append(name)
                elif each is not None:
                    arguments += [name, written(each, f"{option}.{index}")]
        result = CliRunner().invoke(app, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(result.exit_code, result.output)

    return run
