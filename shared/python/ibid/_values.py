"""Python values as JSON text and back, with their types.

What JSON has is JSON. Other types are objects with a member ``$type``; a user's
dictionary with such a key is escaped. What has no form of its own is pickled,
with a digest made of its parts where one can be made that is the same in every
process: the digest, not the pickle, decides whether two values are the same.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import hashlib
import json
import math
import pathlib
import pickle
import sys
import threading
import types
import uuid
from typing import Any, Callable, Optional

__all__ = ["encode", "decode", "Unserialisable"]

_DEPTH = 100


class Unserialisable(TypeError):
    """A value that cannot be sent or kept."""


class _Reference:
    """Stands for an ``Execution`` while its module is not imported; see `_execution`."""


execution_type: Any = _Reference
make_execution: Callable[[str], Any] = lambda id: id


def encode(value: Any) -> str:
    """The JSON text of a value.

    Raises:
        Unserialisable: With the reason, in words.
    """
    kind = type(value)
    if kind is int:
        return _digits(value)
    if kind is str and value.isascii():
        return json.dumps(value)
    try:
        return json.dumps(_plain(value, 0), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise Unserialisable("the value is nested too deep") from None
    except ValueError as error:
        if "digits" in str(error):
            with _AnyDigits():
                return json.dumps(_plain(value, 0), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        raise Unserialisable(str(error)) from None


class _AnyDigits:
    """Lifts the limit on the digits of integers, which exists to guard against input."""

    _lock = threading.RLock()  # the limit is the interpreter's, not the thread's

    def __enter__(self) -> None:
        self._lock.acquire()
        self._limit = sys.get_int_max_str_digits() if hasattr(sys, "get_int_max_str_digits") else None
        if self._limit is not None:
            sys.set_int_max_str_digits(0)

    def __exit__(self, *_: object) -> None:
        if self._limit is not None:
            sys.set_int_max_str_digits(self._limit)
        self._lock.release()


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:
        with _AnyDigits():
            return str(value)


def _has_surrogates(text: str) -> bool:
    try:
        text.encode("utf-8")
        return False
    except UnicodeEncodeError:
        return True


def _plain(value: Any, depth: int) -> Any:
    """What `json.dumps` writes for a value. The exact type decides: a subclass is not its base."""
    kind = type(value)
    if value is None or kind is bool or kind is int:
        return value
    if kind is str:
        if not value.isascii() and _has_surrogates(value):
            data = value.encode("utf-8", "surrogatepass")
            return {"$type": "str", "base64": base64.b64encode(data).decode("ascii")}
        return value
    if kind is float:
        if math.isfinite(value):
            return value
        name = "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
        return {"$type": "float", "value": name}
    if depth > _DEPTH:
        raise Unserialisable(f"the value is nested deeper than {_DEPTH} levels")
    if kind is list:
        return [_plain(item, depth + 1) for item in value]
    if kind is dict:
        return _plain_dict(value, depth)
    simple = _SIMPLE.get(kind)
    if simple is not None:
        return simple(value, depth)
    if isinstance(value, execution_type):
        return {"$type": "execution", "id": value.id}
    if isinstance(value, pathlib.PurePath):
        if kind in (type(pathlib.Path()), pathlib.Path):
            return {"$type": "path", "value": _plain(str(value), depth + 1)}
        if kind in (pathlib.PurePosixPath, pathlib.PureWindowsPath):
            return {"$type": "path", "kind": kind.__name__, "value": _plain(str(value), depth + 1)}
    return _pickled(value)


def _plain_dict(value: dict[Any, Any], depth: int) -> Any:
    if all(type(key) is str and (key.isascii() or not _has_surrogates(key)) for key in value):
        members = {key: _plain(item, depth + 1) for key, item in value.items()}
        if "$type" in members:
            return {"$type": "object", "members": [[key, item] for key, item in members.items()]}
        return members
    items = [[_plain(key, depth + 1), _plain(item, depth + 1)] for key, item in value.items()]
    return {"$type": "dict", "items": items}


def _sequence(name: str) -> Callable[[Any, int], Any]:
    return lambda value, depth: {"$type": name, "items": [_plain(item, depth + 1) for item in value]}


def _unordered(name: str) -> Callable[[Any, int], Any]:
    def plain(value: Any, depth: int) -> Any:
        items = [_plain(item, depth + 1) for item in value]
        items.sort(key=lambda item: json.dumps(item, sort_keys=True))
        return {"$type": name, "items": items}

    return plain


def _text(name: str, text: Callable[[Any], str]) -> Callable[[Any, int], Any]:
    return lambda value, _depth: {"$type": name, "value": text(value)}


def _delta(value: dt.timedelta, _depth: int) -> Any:
    return {"$type": "timedelta", "days": value.days, "seconds": value.seconds, "microseconds": value.microseconds}


def _is_plain_zone(zone: Any) -> bool:
    return zone is None or type(zone) is dt.timezone and zone.tzname(None) == dt.timezone(zone.utcoffset(None)).tzname(None)


def _moment(name: str) -> Callable[[Any, int], Any]:
    def plain(value: Any, _depth: int) -> Any:
        if _is_plain_zone(value.tzinfo):
            wire = {"$type": name, "value": value.isoformat()}
            if value.fold:
                wire["fold"] = 1
            return wire
        return _pickled(value)

    return plain


_SIMPLE: dict[type, Callable[[Any, int], Any]] = {
    tuple: _sequence("tuple"),
    set: _unordered("set"),
    frozenset: _unordered("frozenset"),
    bytes: lambda value, _depth: {"$type": "bytes", "base64": base64.b64encode(value).decode("ascii")},
    bytearray: lambda value, _depth: {"$type": "bytearray", "base64": base64.b64encode(value).decode("ascii")},
    complex: lambda value, depth: {"$type": "complex", "real": _plain(value.real, depth), "imag": _plain(value.imag, depth)},
    decimal.Decimal: _text("decimal", str),
    fractions.Fraction: lambda value, _depth: {"$type": "fraction", "numerator": value.numerator, "denominator": value.denominator},
    dt.date: _text("date", dt.date.isoformat),
    dt.datetime: _moment("datetime"),
    dt.time: _moment("time"),
    dt.timedelta: _delta,
    uuid.UUID: _text("uuid", str),
    range: lambda value, _depth: {"$type": "range", "start": value.start, "stop": value.stop, "step": value.step},
    type(Ellipsis): lambda _value, _depth: {"$type": "ellipsis"},
}


def _pickled(value: Any) -> Any:
    references: list[str] = []
    try:
        data = _Pickler.dump_value(value, references)
    except RecursionError:
        raise Unserialisable("the value is nested too deep") from None
    except Exception as error:
        raise Unserialisable(f"a value of type {_class(type(value))} cannot be sent or kept: {error}") from None
    try:
        shown = repr(value)
    except Exception:  # a broken repr harms only the display
        shown = f"<{_class(type(value))}>"
    hasher = hashlib.blake2b(digest_size=32)
    try:
        _Digester(hasher, references).add(value)
        digest: Optional[str] = hasher.hexdigest()
    except Exception:  # attributes that are not set, properties that raise: no digest, but a value
        digest = None
    wire: dict[str, Any] = {
        "$type": "python",
        "class": _class(type(value)),
        "digest": digest,
        "repr": shown[:200].encode("utf-8", "replace").decode("utf-8"),
        "pickle": base64.b64encode(data).decode("ascii"),
    }
    if references:
        wire["references"] = references
    return wire


def _class(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


class _Pickler(pickle.Pickler):
    """Pickles executions by their ids and notes which there were."""

    references: list[str]

    @classmethod
    def dump_value(cls, value: Any, references: list[str]) -> bytes:
        import io

        buffer = io.BytesIO()
        pickler = cls(buffer, protocol=4)
        pickler.references = references
        pickler.dump(value)
        return buffer.getvalue()

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, execution_type):
            self.references.append(obj.id)
            return ("execution", obj.id)
        return None


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        return _made(pid[1])


_reading = threading.local()


def _made(id: str) -> Any:
    make = getattr(_reading, "make", None)
    return make_execution(id) if make is None else make(id)


def decode_result(wire: Any, resolve: Callable[[str], Any]) -> Any:
    """Like `decode`, with the result of every call in place of the reference to it."""
    before = getattr(_reading, "make", None)
    _reading.make = resolve
    try:
        return decode(wire)
    finally:
        _reading.make = before


class _NoDigest(Exception):
    """The value has no digest that is the same in every process."""


class _Digester:
    """Feeds the parts of a value to a hash, typed and with lengths."""

    def __init__(self, hasher: Any, references: list[str]) -> None:
        self._hasher = hasher
        self._references = references
        self._inside: set[int] = set()

    def _put(self, tag: str, data: bytes) -> None:
        self._hasher.update(f"{tag}:{len(data)}:".encode())
        self._hasher.update(data)

    def add(self, value: Any) -> None:
        kind = type(value)
        if kind in (dt.datetime, dt.time) and not _is_plain_zone(value.tzinfo):
            self._zoned(value)
            return
        if kind in _LEAVES or (kind in _SIMPLE and kind not in (tuple, set, frozenset)):
            plain = _plain(value, 0)
            with _AnyDigits():
                self._put(kind.__name__, json.dumps(plain, sort_keys=True).encode())
            return
        if id(value) in self._inside:
            raise _NoDigest
        self._inside.add(id(value))
        try:
            self._compound(value, kind)
        finally:
            self._inside.discard(id(value))

    def _zoned(self, value: Any) -> None:
        zone = value.tzinfo
        key = f"{zone.utcoffset(None)} {zone.tzname(None)}" if type(zone) is dt.timezone else getattr(zone, "key", None)
        if key is None:
            raise _NoDigest
        self._put(type(value).__name__, f"{value.replace(tzinfo=None).isoformat()} {value.fold} {key}".encode())

    def _many(self, tag: str, values: Any, length: int) -> None:
        self._put(tag, str(length).encode())
        for item in values:
            self.add(item)

    def _part(self, value: Any) -> bytes:
        inner = hashlib.blake2b(digest_size=32)
        digester = _Digester(inner, self._references)
        digester._inside = self._inside
        digester.add(value)
        return inner.digest()

    def _compound(self, value: Any, kind: type) -> None:
        if isinstance(value, execution_type):
            # Which of the references it is; by what they count is known to the daemon.
            self._put("execution", str(self._references.index(value.id)).encode())
        elif kind is list or kind is tuple:
            self._many(kind.__name__, value, len(value))
        elif kind is set or kind is frozenset:
            self._put(kind.__name__, b"".join(sorted(self._part(item) for item in value)))
        elif kind is dict:
            parts = sorted(self._part(key) + self._part(item) for key, item in value.items())
            self._put("dict", b"".join(parts))
        elif isinstance(value, enum.Enum):
            if isinstance(value, enum.Flag):  # combinations have no name of their own
                self._put("flag", f"{_class(kind)} {int(value.value)}".encode())
            else:
                self._put("enum", f"{_class(kind)}.{value.name}".encode())
        elif _is_named(value):
            # A function or class is its name, unless it has none that leads back to it.
            name = f"{value.__module__}:{value.__qualname__}"
            if "<" in name:
                raise _NoDigest
            self._put("name", name.encode())
        elif isinstance(value, tuple) and hasattr(kind, "_fields") and not _attributes(value):
            self._put("namedtuple", _class(kind).encode())
            self._many("fields", value, len(value))
        elif dataclasses.is_dataclass(value) and not isinstance(value, _CONTENTS):
            self._fields(value, kind)
        elif kind.__module__.split(".")[0] in ("numpy", "pandas"):
            self._array(value, kind)
        elif isinstance(value, pathlib.PurePath):
            self._put("path", f"{_class(kind)} {value}".encode("utf-8", "surrogatepass"))
        elif isinstance(value, tuple(_BARE)) and not _attributes(value):
            # The class's own conversions (`__str__`, `__int__`) are for show.
            bare = next(bare for base, bare in _BARE.items() if isinstance(value, base))
            self._put("subclass", _class(kind).encode())
            self.add(bare(value))
        else:
            raise _NoDigest

    def _fields(self, value: Any, kind: type) -> None:
        fields = dataclasses.fields(value)
        names = {field.name for field in fields}
        if _attributes(value) - names:
            # Attributes beside the fields may matter to whoever set them.
            raise _NoDigest
        self._put("dataclass", _class(kind).encode())
        for field in fields:
            self._put("field", field.name.encode())
            self.add(getattr(value, field.name))

    def _array(self, value: Any, kind: type) -> None:
        self._put("array", _class(kind).encode())
        if kind.__module__.startswith("numpy.ma"):
            raise _NoDigest  # the mask is not among the bytes
        if hasattr(value, "to_numpy") and hasattr(value, "index"):
            columns = getattr(value, "columns", None)
            dtypes = list(value.dtypes) if columns is not None else [value.dtype]
            indices = [value.index] if columns is None else [value.index, columns]
            if any(hasattr(dtype, "categories") for dtype in dtypes) or value.attrs:
                raise _NoDigest
            for index in indices:
                if hasattr(index.dtype, "categories"):
                    raise _NoDigest
                self.add([_class(type(index)), str(index.dtype), list(index.names)])
            self.add([str(dtype) for dtype in value.dtypes] if columns is not None else str(value.dtype))
            if columns is not None:
                self._array_bytes(columns.to_numpy())
                for position in range(len(columns)):
                    self._array_bytes(value.iloc[:, position].to_numpy())
            else:
                self.add(value.name)
                self._array_bytes(value.to_numpy())
            self._array_bytes(value.index.to_numpy())
        elif hasattr(value, "dtype") and hasattr(value, "tobytes"):
            self._array_bytes(value)
        else:
            raise _NoDigest

    def _array_bytes(self, array: Any) -> None:
        shape = getattr(array, "shape", ())
        self._put("shape", f"{array.dtype!r} {shape}".encode())
        if array.dtype.hasobject:
            self._many("items", array.ravel().tolist(), array.size)
        else:
            self._put("bytes", array.tobytes())


_CONTENTS = (list, dict, set, frozenset, tuple, int, float, complex, str, bytes, bytearray, BaseException)

_BARE: dict[type, Callable[[Any], Any]] = {
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
    bytes: lambda value: b"".join((value,)),
}


def _attributes(value: Any) -> set[str]:
    """The names of what an object holds beside its contents."""
    names: set[str] = set(getattr(value, "__dict__", ()))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names.update((slots,) if isinstance(slots, str) else slots)
    return names - {"__dict__", "__weakref__"}


def _is_named(value: Any) -> bool:
    kind = type(value)
    if kind is types.BuiltinFunctionType:  # also methods of values, which their names don't tell
        return value.__self__ is None or isinstance(value.__self__, types.ModuleType)
    return issubclass(kind, type) or kind is types.FunctionType


_LEAVES = {type(None), bool, int, float, str}


def decode(wire: Any) -> Any:
    """The value of parsed JSON."""
    if type(wire) is list:
        return [decode(item) for item in wire]
    if type(wire) is not dict:
        return wire
    kind = wire.get("$type")
    if kind is None:
        return {key: decode(item) for key, item in wire.items()}
    reader = _READERS.get(kind)
    if reader is None:
        return {key: decode(item) for key, item in wire.items()}
    return reader(wire)


def loads(text: str) -> Any:
    """Parses JSON; integers may have any number of digits."""
    try:
        return json.loads(text)
    except ValueError as error:
        if "digits" not in str(error):
            raise
        with _AnyDigits():
            return json.loads(text)


def _unpickle(wire: dict[str, Any]) -> Any:
    import io

    return _Unpickler(io.BytesIO(base64.b64decode(wire["pickle"]))).load()


def _read_path(wire: dict[str, Any]) -> Any:
    text = decode(wire["value"])
    return getattr(pathlib, wire["kind"])(text) if "kind" in wire else pathlib.Path(text)


def _read_moment(kind: Any) -> Callable[[dict[str, Any]], Any]:
    def read(wire: dict[str, Any]) -> Any:
        value = kind.fromisoformat(wire["value"])
        return value.replace(fold=1) if wire.get("fold") else value

    return read


def _read_float(wire: dict[str, Any]) -> float:
    return float(wire["value"])


_READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "object": lambda wire: {key: decode(item) for key, item in wire["members"]},
    "dict": lambda wire: {decode(key): decode(item) for key, item in wire["items"]},
    "tuple": lambda wire: tuple(decode(item) for item in wire["items"]),
    "set": lambda wire: {decode(item) for item in wire["items"]},
    "frozenset": lambda wire: frozenset(decode(item) for item in wire["items"]),
    "bytes": lambda wire: base64.b64decode(wire["base64"]),
    "bytearray": lambda wire: bytearray(base64.b64decode(wire["base64"])),
    "str": lambda wire: base64.b64decode(wire["base64"]).decode("utf-8", "surrogatepass"),
    "float": _read_float,
    "complex": lambda wire: complex(decode(wire["real"]), decode(wire["imag"])),
    "decimal": lambda wire: decimal.Decimal(wire["value"]),
    "fraction": lambda wire: fractions.Fraction(wire["numerator"], wire["denominator"]),
    "date": lambda wire: dt.date.fromisoformat(wire["value"]),
    "datetime": _read_moment(dt.datetime),
    "time": _read_moment(dt.time),
    "timedelta": lambda wire: dt.timedelta(wire["days"], wire["seconds"], wire["microseconds"]),
    "uuid": lambda wire: uuid.UUID(wire["value"]),
    "range": lambda wire: range(wire["start"], wire["stop"], wire["step"]),
    "ellipsis": lambda _wire: Ellipsis,
    "path": _read_path,
    "execution": lambda wire: _made(wire["id"]),
    "python": _unpickle,
}


