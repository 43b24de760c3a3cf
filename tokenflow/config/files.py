"""Which files, folders and Hub ids settings name, found by their types."""

from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from tokenflow.config.sections.section import NAMES_A_FILE


def named_files(settings: BaseModel) -> dict[str, str]:
    """Every file, folder and Hub id that settings name, by dotted key, at any depth: `edit.controlnet.also.0.path`."""
    return dict(_named(type(settings), settings, ""))


def field_type(section: type[BaseModel], name: str) -> Any:
    """The type of a setting, with its marks."""
    field = section.model_fields[name]
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def forms(kind: Any) -> Iterator[Any]:
    """The alternatives of a type, those of unions in it included; marked ones as they are."""
    origin = get_origin(kind)
    if origin is Annotated and NAMES_A_FILE not in kind.__metadata__:
        yield from forms(get_args(kind)[0])
    elif origin in (Union, UnionType):
        for each in get_args(kind):
            yield from forms(each)
    else:
        yield kind


def is_file(form: Any) -> bool:
    """Whether a form of a type is the name of a file, folder or model."""
    return get_origin(form) is Annotated


def item_types(form: Any) -> tuple[Any, ...]:
    """The types of what a list or dictionary holds."""
    kinds = get_args(form)[1:] if get_origin(form) is dict else get_args(form)
    return tuple(kind for kind in kinds if kind is not Ellipsis)


def _named(kind: Any, value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, BaseModel):
        section = type(value)
        for name in section.model_fields:
            yield from _named(field_type(section, name), getattr(value, name), f"{key}.{name}".lstrip("."))
    elif isinstance(value, dict | list | tuple):
        pairs: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
        inner = [each for form in forms(kind) for each in item_types(form)]
        for name, item in pairs:
            for each in inner:
                yield from _named(each, item, f"{key}.{name}")
    elif value is not None and any(map(is_file, forms(kind))):
        yield key, str(value)
