"""Generate pages, and tables in other pages, from the code.

Run ``python -m docs.make`` in the project's folder; a test fails while the pages are out of date.
A table in another page lies between ``<!-- metrics -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from imdbtune.cli.app import app
from imdbtune.cli.command import EXIT_CODES, GroupedCommand, panel_of
from imdbtune.cli.config_flags import PANELS
from imdbtune.config.extensions import CELLS, FORMATS, registries
from imdbtune.config.hyperparameters import PARAMETERS, allowed
from imdbtune.config.registry import Registry
from imdbtune.config.schema import SECTIONS
from imdbtune.config.search_space import word

HERE = Path(__file__).parent

CLI = """\
# Commands

Run `imdbtune COMMAND --help` to read the same in the terminal.

- A flag without a default leaves the choice to the configuration file, see
  [hyperparameters and settings](hyperparameters.md).
- Every flag has an environment variable; `1` and `0` turn switches on and off. The command line
  overrides the variable, and the variable overrides the file.
- `--json` prints JSON on standard output and messages on standard error; `search` then prints one
  event per line. `--quiet` prints the result in one line, `--verbose` also where a command works
  and messages of other libraries.
- `imdbtune --install-completion` enables completion of commands, flags and values in bash, zsh and
  fish.

{codes}

{contents}
"""

HYPERPARAMETERS = """\
# Hyperparameters and settings

A configuration file has a section for each heading below. `--set SECTION.KEY=VALUE` changes any
key, and some keys have [flags of their own](cli.md). The defaults are those of Listing 6.27 of
*Deep Learning with Python*; the bundled workflows use others.

```toml
# small.toml
name = "small"
about = "One line for the search's page in MLflow."

[space]
rnn = ["lstm", "gru"]
units = {{ min = 16, max = 64, step = 16 }}

[tuner]
max_trials = 4

[training]
epochs = 2
```

```bash
imdbtune search small.toml --patience 1 --set space.skip=true --dry-run
```

## `[space]`: the hyperparameters of a trial

{space}

The cells that `rnn` chooses from:

{cells}

Each hyperparameter takes one of these forms, in a file or on the command line (with `--set`, or
with a flag of its own):

| form | in a file | as a flag |
| --- | --- | --- |
| a value | `units = 32` | `--units 32` |
| a list | `units = [16, 32]` | `--units 16,32` |
| a range | `units = {{ min = 16, max = 128 }}` | `--units 16-128` |
| a range with a step | `units = {{ min = 16, max = 128, step = 16 }}` | `--units 16-128:16` |
| a log range | `units = {{ min = 16, max = 128, sampling = "log" }}` | `--units 16-128:log` |
| doubling | `units = {{ min = 16, max = 128, step = 2, sampling = "log" }}` | `--units 16-128:x2` |
| only if another one has a value | `units = {{ values = [64], when = {{ rnn = ["gru"] }} }}` | |
{sections}"""


EXTENSIONS = """\
# What can be chosen by name

Each entry is one module and one line in `imdbtune/config/extensions.py`, or an entry point of
another package in the group given below. Help, checks, completion and these tables derive from it.
[CONTRIBUTING.md](../CONTRIBUTING.md#extensions) shows how to add one.
"""
WITH_TABLES = ("own_reviews.md", "using_the_winner.md")


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Return the pages by their file names."""
    tables = {_plural(registry): _entries(registry) for registry in registries()}
    tables["scripts of the formats"] = _scripts()
    read = {name: (HERE / name).read_text(encoding="utf-8") for name in WITH_TABLES}
    return {
        "cli.md": cli(),
        "hyperparameters.md": hyperparameters(),
        "extensions.md": extensions_page(),
        **{name: _with_tables(text, tables) for name, text in read.items()},
    }


def _with_tables(text: str, tables: Mapping[str, str]) -> str:
    """Return a page with its tables written anew."""

    def anew(block: re.Match[str]) -> str:
        return f"<!-- {block[1]} -->\n\n{tables[block[1]].rstrip()}\n\n<!-- end -->"

    return re.sub(r"<!-- ([a-z ]+) -->\n.*?<!-- end -->", anew, text, flags=re.DOTALL)


def cli() -> str:
    """Return the page of all commands with usage, flags, examples and exit codes."""
    group: Any = typer.main.get_command(app)
    whole = group.make_context("imdbtune", [], resilient_parsing=True)
    links = [f"- [{name}](#imdbtune-{name}): {_about(c)[0]}" for name, c in group.commands.items()]
    start = CLI.format(codes=EXIT_CODES, contents="\n".join(links))
    parts = [start, "## imdbtune\n", _usage(group, whole), _flags(group.params)]
    for name, command in group.commands.items():
        context = command.make_context(name, [], parent=whole, resilient_parsing=True)
        parts += [f"## imdbtune {name}\n", *_described(command, context)]
    return "\n".join(parts)


def _described(command: Any, context: Any) -> Iterable[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    for paragraph in _about(command):
        yield paragraph + "\n"
    yield _usage(command, context)
    if arguments:
        rows = ((f"`{p.metavar}`", p.help) for p in arguments)
        yield _table(("argument", "meaning"), rows)
    options = [p for p in command.params if p not in arguments and p.name != "help"]
    if isinstance(command, GroupedCommand):
        yield from _grouped_flags(options)
    else:
        yield _flags(options)
    examples = command.help.partition("Examples:\n")[2]
    lines = [line.strip() for line in examples.splitlines()]
    yield "\n".join(["```bash", *lines, "```", ""])


def _about(command: Any) -> list[str]:
    """Return the paragraphs of a command's help, without its examples."""
    text = command.help.partition("\b")[0]
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def _usage(command: Any, context: Any) -> str:
    usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
    return f"```text\n{usage}\n```\n"


def _flags(options: Sequence[Any]) -> str:
    rows = (
        (_spelled(o), _default(o), _code(o.envvar or ""), o.help or "")
        for o in options
        if o.name != "help"
    )
    return _table(("flag", "default", "variable", "meaning"), rows)


def _grouped_flags(options: Sequence[Any]) -> Iterable[str]:
    """Yield a table for each group of flags, as the help does."""
    for panel in PANELS:
        if group := [option for option in options if panel_of(option) == panel]:
            yield f"{panel}:\n"
            yield _flags(group)


def _spelled(option: Any) -> str:
    """Return the spellings: ``--json``, ``--test``, ``--no-test`` or ``--set KEY=VALUE``."""
    names = [*sorted(option.opts, key=len, reverse=True), *option.secondary_opts]
    value = "" if option.is_flag else f" {option.metavar}"
    return ", ".join(_code(f"{name}{value}") for name in names)


def _default(option: Any) -> str:
    if option.is_flag:
        return ("on" if option.default else "off") if option.envvar else ""
    return _code(str(option.default or ""))


def extensions_page() -> str:
    """Return the page with a table for each registry."""
    parts = (
        f"## {_plural(registry).capitalize()}\n\nEntry points: `{registry.group}`.\n\n"
        + _entries(registry, modules=True)
        for registry in registries()
    )
    return "\n".join([EXTENSIONS, *parts])


def _plural(registry: Registry[Any]) -> str:
    return f"{registry.kind}s"


def _entries(registry: Registry[Any], modules: bool = False) -> str:
    """Return the table of a registry; entries with the same implementation share a row."""
    names: dict[str, list[str]] = {}
    for name, reference in registry.references.items():
        names.setdefault(reference, []).append(name)
    rows = [
        (", ".join(map(_code, same)), registry[same[0]].about, _code(reference.partition(":")[0]))
        for reference, same in names.items()
    ]
    columns = 3 if modules else 2
    return _table((registry.kind, "is", "module")[:columns], [row[:columns] for row in rows])


def _scripts() -> str:
    """Return a section for each export format: its files and the script of its README."""
    parts = []
    for name, form in FORMATS.items():
        body = form.usage.partition("\n")[2].strip()
        files = ", ".join(map(_code, form.files))
        parts.append(f"### {name}\n\n{files}: {form.about}.\n\n{body}\n")
    return "\n".join(parts)


def hyperparameters() -> str:
    """Return the page of all keys of a configuration file with meaning, default and limits."""
    sections = "".join(
        f"\n## `[{name}]`: {_lower((section.__doc__ or '').rstrip('.'))}\n\n"
        + _keys(dataclasses.fields(section))
        for name, section in SECTIONS.items()
    )
    cells = _table(("cell", "layer and source"), ((_code(n), c.about) for n, c in CELLS.items()))
    return HYPERPARAMETERS.format(
        space=_keys(PARAMETERS.values()).rstrip(), cells=cells.rstrip(), sections=sections
    )


def _keys(fields: Iterable[dataclasses.Field[Any]]) -> str:
    rows = (
        (_code(f.name), f.metadata["about"], _code(_as_toml(f.default)), allowed(f)) for f in fields
    )
    return _table(("key", "meaning", "default", "allowed"), rows)


def _as_toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else word(value)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), ""])


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    main()
