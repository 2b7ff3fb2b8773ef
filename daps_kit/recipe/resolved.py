"""Settings as text again: the resolved recipe, with every default written out."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

import daps_kit
from daps_kit.fingerprint import fingerprints
from daps_kit.registry import Registry, default_registry
from daps_kit.remote import url_of
from daps_kit.settings import ComponentSettings, Settings
from daps_kit.unknown import Unknown

from .document import add_resolvers

__all__ = ["components", "file_hashes", "hash_lines", "plain", "resolved_yaml", "to_yaml"]


def plain(value: Any, registry: Registry) -> Any:
    """Return settings as the plain data that a recipe would hold, every default written out."""
    if isinstance(value, BaseModel):
        use = {"use": registry.name_in_recipe(value)} if isinstance(value, ComponentSettings) else {}
        return use | {key: plain(getattr(value, key), registry) for key in type(value).model_fields}
    if isinstance(value, dict):
        return {key: plain(item, registry) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, registry) for item in value]
    if isinstance(value, Unknown):
        return value.written()
    if isinstance(value, Path):
        return url_of(value) or str(value)
    return str(value) if isinstance(value, str) else value


class _Dumper(yaml.SafeDumper):
    """Writes what the strict loader reads back as the same value."""


def _write_list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    flat = all(not isinstance(item, list | dict) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=flat)


_Dumper.add_representer(list, _write_list)
add_resolvers(_Dumper)


def to_yaml(value: Any, *, flow: bool = False) -> str:
    """Return plain data as YAML that the strict loader reads back; with `flow` in one line."""
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=float("inf") if flow else 110,
        default_flow_style=flow,
    )
    return text.removesuffix("...\n").strip() if flow else text


def components(value: Any) -> list[ComponentSettings]:
    """Return the components among settings, at any depth, the outer ones first."""
    if isinstance(value, BaseModel):
        own = [value] if isinstance(value, ComponentSettings) else []
        return own + [c for key in type(value).model_fields for c in components(getattr(value, key))]
    if isinstance(value, dict):
        value = list(value.values())
    return [c for item in value for c in components(item)] if isinstance(value, list | tuple) else []


def resolved_yaml(recipe: Settings, *, command: str = "run", registry: Registry | None = None) -> str:
    """Return a recipe as YAML with every default written out and every path absolute.

    It loads again to an equal recipe. Comments say which distributions or files its components came from, and the
    hashes of these files and of those that they read; at the end those of the files of its data.

    Raises:
        UserError: one of these files cannot be read.
    """
    known: Registry = registry or getattr(recipe, "registry", None) or default_registry()
    lines = [f"# resolved by daps-kit {daps_kit.__version__}; run it again with: daps-kit {command} FILE"]
    for settings in components(recipe):
        c = known.component_of(settings)
        lines.append(f"# {c.kind} {c.name}: {c.distribution} {c.version}")
    executed: tuple[Path, ...] = getattr(recipe, "plugins", ())
    lines += [f"# {file} is executed: it is Python, not data" for file in executed]
    read = [*executed, *(file for c in components(recipe) if c.kind != "trainer" for file in c.files())]
    data = getattr(recipe, "data", None)
    head = "".join(f"{line}\n" for line in dict.fromkeys(lines)) + hash_lines(_hashes(read))
    return head + to_yaml(plain(recipe, known)) + hash_lines(_hashes(data.files if data else ()))


def _hashes(files: Iterable[Path]) -> dict[str, str]:
    """Return the hashes of files by their paths; building says what is missing."""
    found = fingerprints(file for file in files if file.exists())
    return {url_of(Path(path)) or path: digest for path, digest in found.items()}


def hash_lines(hashes: Mapping[str, str]) -> str:
    """Return the comments that `file_hashes` reads."""
    return "".join(f"# file {json.dumps(path)}: sha256 {digest}\n" for path, digest in hashes.items())


def file_hashes(text: str) -> dict[str, str]:
    """Return the hashes of the files that a resolved recipe names, by their paths."""
    found = re.findall(r'^# file (".*"): sha256 ([0-9a-f]{64})$', text, re.MULTILINE)
    hashes: dict[str, str] = {}
    for path, digest in found:
        with contextlib.suppress(ValueError):  # a comment that somebody wrote
            hashes[json.loads(path)] = digest
    return hashes
