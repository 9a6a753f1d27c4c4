"""Which column of a parquet schema is the image, which the label, and what else there is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedlens.errors import DataError

IMAGES = ("img", "image")
LABELS = ("label", "labels", "fine_label")


@dataclass(frozen=True)
class Columns:
    """Names of columns; `classes` from the hub's metadata, or empty when the file does not say."""

    image: str
    label: str
    classes: tuple[str, ...]
    others: tuple[str, ...]


def columns_of(schema: Any, where: str) -> Columns:
    """The columns of an Arrow `schema`; DataError, naming the file `where`, when there is no image or no label."""
    from pyarrow import types

    features = _features(schema.metadata or {})
    images = [field.name for field in schema if _is_image(field.type)]
    labelled = [name for name, feature in features.items() if _type(feature) == "ClassLabel"]
    whole = [field.name for field in schema if types.is_integer(field.type)]
    label = _choose(LABELS, whole) or next((name for name in labelled if name in whole), "")
    image = _choose(IMAGES, images) or next(iter(images), "")
    for name, kind, looked_for in ((image, "image", "a struct with bytes"), (label, "label", "whole numbers")):
        if not name:
            seen = ", ".join(f"{field.name}: {field.type}" for field in schema)
            do = f"Fedlens looks for {looked_for}, {'a ClassLabel or ' if kind == 'label' else ''}named "
            do += f"{' or '.join(LABELS if kind == 'label' else IMAGES)}. Rename it, or load it with your own function."
            raise DataError(f"no column holds the {kind}s", where=where, seen=seen, do=do)
    names = features.get(label, {}).get("names", ()) if _type(features.get(label)) == "ClassLabel" else ()
    others = [f.name for f in schema if f.name not in (image, label) and _is_scalar(f.type)]
    return Columns(image, label, tuple(str(name) for name in _listed(names)), tuple(others))


def _features(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The hub's own description of the columns, which it stores beside the schema as JSON."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _type(feature: Any) -> str:
    return str(feature.get("_type", "")) if isinstance(feature, dict) else ""


def _listed(names: Any) -> list[Any]:
    """Class names come as a list, or as a table from '0', '1', ... to the name."""
    if isinstance(names, dict):
        return [name for _, name in sorted(names.items(), key=lambda item: int(item[0]))]
    return list(names or ())


def _is_image(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _is_image(field.type) for field in kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_scalar(kind: Any) -> bool:
    from pyarrow import types

    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_string, types.is_large_string)
    return any(test(kind) for test in tests)


def _choose(wanted: tuple[str, ...], there: list[str]) -> str:
    return next((name for name in wanted if name in there), "")
