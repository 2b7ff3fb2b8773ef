"""Write the pages of the documentation that come from the code: contracts.md, components.md, recipe-reference.md.

Run it with `python docs/generate.py` after a docstring or a setting has changed; a test compares.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COMMAND = "python docs/generate.py"


# --- docstrings as Markdown


def markdown(docstring: str | None) -> list[str]:
    """Return a docstring as Markdown lines: `Args:` and the like become lists, indented formulas code."""
    blocks = re.split(r"\n{2,}", inspect.cleandoc(docstring or "").strip())
    lines: list[str] = []
    for block in blocks:
        rows = block.splitlines()
        if re.fullmatch(r"(Args|Attributes|Returns|Raises|Yields):", rows[0]):
            lines += ["", f"*{rows[0]}*", "", *_items(rows[1:], rows[0] in ("Returns:", "Yields:"))]
        elif all(row.startswith("    ") for row in rows):
            lines += ["", "```text", *(row[4:] for row in rows), "```"]
        else:
            lines += ["", " ".join(row.strip() for row in rows)]
    return lines[1:]


def _items(rows: list[str], plain: bool) -> Iterator[str]:
    """Yield the entries of a section as a list; further lines of an entry are joined to it."""
    joined: list[str] = []
    for row in rows:
        if row.startswith("        ") or (plain and joined):
            joined[-1] += f" {row.strip()}"
        else:
            joined.append(row.strip())
    for entry in joined:
        name, colon, text = entry.partition(": ")
        yield f"- {entry}" if plain or not colon else f"- `{name}`: {text}"


def signature(name: str, function: Any) -> str:
    """Return `name(arguments) -> result` with the annotations as they are written."""
    shown = []
    star = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            shown.append("*")
            star = True
        text = parameter.name
        if parameter.annotation is not parameter.empty:
            text += f": {parameter.annotation}"
        if parameter.default is not parameter.empty:
            text += f" = {parameter.default!r}"
        shown.append(text)
    result = inspect.signature(function).return_annotation
    arrow = "" if result in (inspect.Signature.empty, "None") else f" -> {result}"
    return f"{name}({', '.join(shown)}){arrow}"


def describe_class(cls: type, page: set[type]) -> list[str]:
    """Return a class as Markdown: its docstring, then what it defines itself; bases on the page are linked."""
    bases = [base.__name__ for base in cls.__bases__ if base in page]
    lines = ["", f"## {cls.__name__}", ""]
    if bases:
        article = "An" if bases[0].startswith(tuple("AEIO")) else "A"
        lines += [f"{article} {' and '.join(f'[{base}](#{base.lower()})' for base in bases)}.", ""]
    lines += markdown(cls.__doc__)
    for name, member in vars(cls).items():
        raw = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        is_property = isinstance(raw, property)
        function: Any = raw.fget if isinstance(raw, property) else raw
        if name.startswith("_") or not inspect.isfunction(function) or not function.__doc__:
            continue
        if dataclasses.is_dataclass(cls) and name in {field.name for field in dataclasses.fields(cls)}:
            continue
        heading = name if is_property else signature(name, function)
        kinds = [
            word
            for word, holds in [
                ("must be defined", getattr(function, "__isabstractmethod__", False)),
                ("property", is_property),
                ("class method", isinstance(member, classmethod)),
            ]
            if holds
        ]
        lines += ["", f"### `{heading}`", ""]
        lines += [f"*{', '.join(kinds)}*", ""] if kinds else []
        lines += markdown(function.__doc__)
    return lines


# --- the pages


def contracts() -> str:
    """Return contracts.md: what components, their settings and plugins must do."""
    from daps_kit import contracts, executor, hooks, random, settings, sources, trackers, trainer

    parts: dict[str, list[type]] = {
        "Operators": [
            contracts.Operator,
            contracts.LinearOperator,
            contracts.Transfer,
            contracts.Parameters,
        ],
        "Noise models": [contracts.Noise],
        "Priors": [contracts.Prior, contracts.Covariance, contracts.Calibration, contracts.LocalErrors],
        "Kernels": [
            contracts.Target,
            contracts.Kernel,
            contracts.KernelState,
            contracts.KernelInfo,
        ],
        "Samplers": [contracts.Sampler, contracts.Step, contracts.Failure],
        "Trainers": [trainer.Trainer],
        "Executors": [
            executor.Executor,
            executor.Pool,
            executor.Job,
            executor.Done,
            executor.Failed,
            executor.Alive,
            executor.Said,
            executor.State,
        ],
        "Checkpoints": [sources.Source],
        "Trackers": [trackers.Tracker],
        "Random numbers": [random.RandomStreams],
        "Settings": [
            settings.ComponentSettings,
            settings.OperatorSettings,
            settings.DrawnOperatorSettings,
            settings.NoiseSettings,
            settings.PriorSettings,
            settings.KernelSettings,
            settings.SamplerSettings,
            settings.TrainerSettings,
            settings.ExecutorSettings,
        ],
    }
    lines = ["# The contracts", "", f"<!-- Written by `{COMMAND}` from the docstrings; edit those. -->", ""]
    lines += markdown(contracts.__doc__)
    lines += ["", "`daps_kit.testing` checks all of this; [Write a plugin](write-a-plugin.md) shows how.", ""]
    for part, classes in parts.items():
        links = ", ".join(f"[{cls.__name__}](#{cls.__name__.lower()})" for cls in classes)
        lines.append(f"- {part}: {links}")
    lines.append("- Plugins: [hooks](#hooks)")
    for classes in parts.values():
        for cls in classes:
            lines += describe_class(cls, {each for part in parts.values() for each in part})
    lines += ["", "## Hooks", "", *markdown(hooks.__doc__)]
    for name, function in vars(hooks).items():
        if name.startswith("daps_") and inspect.isfunction(function):
            lines += ["", f"### `{signature(name, function)}`", "", *markdown(function.__doc__)]
    return "\n".join(lines) + "\n"


def components() -> str:
    """Return components.md: the components that ship with daps-kit, and their parameters."""
    from daps_kit.recipe import describe
    from daps_kit.registry import Registry
    from daps_kit.settings import KINDS

    registry = Registry.discover(third_parties=False)
    lines = ["# Components", "", f"<!-- Written by `{COMMAND}` from the settings; edit those. -->", ""]
    lines += [
        "What ships with daps-kit. Plugins add more: `daps-kit list` shows all, `daps-kit show KIND/NAME` one.",
        "",
    ]
    for kind in KINDS:
        found = registry.components(kind)
        if not found:
            continue
        lines += [f"## {kind.capitalize()}s", "", "| name | what it is |", "|---|---|"]
        lines += [f"| [{c.name}](#{kind}{c.name}) | {_cell(c.settings.summary())} |" for c in found]
        lines.append("")
        for c in found:
            lines += [f"### {kind}/{c.name}", ""]
            lines += [*markdown(c.settings.__doc__), ""]
            parameters = describe.parameters(c, registry)
            if parameters:
                lines += ["| parameter | type | default | range | description |", "|---|---|---|---|---|"]
            for p in parameters:
                default = "required" if p.default is None else f"`{_cell(p.default)}`"
                cells = (f"`{p.name}`", _cell(p.type), default, _cell(p.range), _cell(p.description))
                lines.append(f"| {' | '.join(cells)} |")
            if parameters:
                lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def recipe_reference() -> str:
    """Return recipe-reference.md: every key of a recipe, from its schema."""
    from daps_kit.recipe.schema import recipe_schema
    from daps_kit.registry import Registry

    schema = recipe_schema(Registry.discover(third_parties=False))
    definitions = schema["$defs"]
    lines = [
        "# Recipes, key by key",
        "",
        f"<!-- Written by `{COMMAND}` from the schema; edit the settings. -->",
        "",
    ]
    lines += [
        "What a recipe may hold, from the schema by which it is checked. [Recipes](recipes.md) tells what it means and",
        "[components](components.md) what stands in the sections; `daps-kit schema` writes the schema, for editors.",
        "",
        *_keys(schema["properties"], definitions),
        "",
        "A section of a component is `{use: name, ...}` with its settings. A recipe stands for a run (`data`, `prior`,",
        "`operator`), or for a training (`trainer`). What `extends` brings in is inherited key by key.",
    ]
    for option in schema["properties"]["data"]["anyOf"]:
        section = definitions[option["$ref"].rpartition("/")[2]]
        use = section["properties"]["use"]["const"]
        fields = {key: value for key, value in section["properties"].items() if key != "use"}
        lines += ["", f"## data: {use}", "", section["description"], "", *_keys(fields, definitions)]
    return "\n".join(lines) + "\n"


def _keys(properties: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    """Yield the table of the keys of a section."""
    yield "| key | what may stand there | if not given | what it is |"
    yield "|---|---|---|---|"
    for key, value in properties.items():
        default = f"`{json.dumps(value['default'])}`" if value.get("default") is not None else ""
        kind = " or ".join(dict.fromkeys(_kinds(value, definitions)))
        yield f"| `{key}` | {_cell(kind)} | {default} | {_cell(value['description'])} |"


def _kinds(value: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    """Yield what a value may be, in words."""
    reference = value.get("$ref", "").rpartition("/")[2]
    words = {"string": "text", "integer": "whole number", "boolean": "true or false", "array": "list"}
    if reference.endswith("Settings"):
        yield f"section of the {reference.removesuffix('Settings').lower()}"
    elif "properties" in definitions.get(reference, {}) and "use" in definitions[reference]["properties"]:
        yield f"`{{use: {definitions[reference]['properties']['use']['const']}, ...}}`"
    elif reference:
        yield "the keys of a recipe"
    elif "anyOf" in value or "oneOf" in value:
        for each in value.get("anyOf", value.get("oneOf")):
            yield from _kinds(each, definitions)
    elif value.get("additionalProperties"):
        yield "section of names"
    elif "enum" in value or "const" in value:
        yield from (f"`{each}`" for each in value.get("enum", [value.get("const")]))
    elif "prefixItems" in value:
        yield f"{len(value['prefixItems'])} numbers"
    elif value.get("items"):
        yield f"list of {', '.join(_kinds(value['items'], definitions))}"
    elif value.get("type") != "null":
        bounds = [f"{sign} {value[name]}" for name, sign in BOUNDS.items() if name in value]
        yield " ".join([words.get(value["type"], value["type"]), *bounds])


BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def _cell(text: str) -> str:
    """Return text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


PAGES = {"contracts.md": contracts, "components.md": components, "recipe-reference.md": recipe_reference}


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
        sys.stdout.write(f"{HERE / name}\n")


if __name__ == "__main__":
    main()
