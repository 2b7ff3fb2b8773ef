"""The door that every file of a user comes through.

guard            which formats there are, one guard for what libraries raise, and sizes looked at first
array_formats    arrays, one function a format           picture_formats, deep_png    pictures, likewise

Importing this package imports neither numpy nor torch.
"""

from .guard import (
    ARRAY_SUFFIXES,
    PICTURE_SUFFIXES,
    Numbers,
    at_once,
    content_of,
    naming,
    optional,
    reading,
    require_safetensors,
    require_size,
    require_zip,
    suffix_of,
    unknown_format,
)

__all__ = [
    "ARRAY_SUFFIXES",
    "PICTURE_SUFFIXES",
    "Numbers",
    "at_once",
    "content_of",
    "naming",
    "optional",
    "reading",
    "require_safetensors",
    "require_size",
    "require_zip",
    "suffix_of",
    "unknown_format",
]
