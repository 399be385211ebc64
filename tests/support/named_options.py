"""Whether a command line names a command and options that exist."""

from importlib import import_module

import typer


def parameters(words):
    """The options that the command at the head of `words` has; fails where there is none."""
    name, *rest = words
    command = typer.main.get_command(import_module(f"sottovoce.commands.{name}").app)
    while (found := getattr(command, "commands", None)) and rest and not rest[0].startswith("-"):
        assert rest[0] in found, words
        command = found[rest.pop(0)]
    return {option: each for each in command.params for option in each.opts + each.secondary_opts}


def check(words):
    """Fail unless `words`, without `sottovoce`, is a command and its options, the required too."""
    known = parameters(words)
    named = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert named <= known.keys() | {"--help"}, (words, named - known.keys())
    if "--help" in named:
        return
    required = {
        each.name for each in known.values() if each.required and each.param_type_name == "option"
    }
    assert required <= {known[word].name for word in named}, (words, required)
