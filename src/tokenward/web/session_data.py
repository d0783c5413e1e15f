"""`request.session`: a dict as Starlette users know it, decrypted at first access."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..errors import SessionError, SessionNotWritable
from ..protocol.json import InvalidJSON, loads_object
from ..stores.app_data import REMOVED, read_data, write_data

if TYPE_CHECKING:
    from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView

    from ..protocol.json import JSONObject

_UNREAD: Final = "\0unread"
_TOO_LATE: Final = (
    "request.session was changed after the answer had begun, or in a WebSocket: it cannot be saved"
)


class SessionData(dict[str, Any]):
    """What the app keeps for one browser. Values are what JSON can hold.

    Nested changes are noticed: `request.session["cart"].append(...)` is written.
    """

    # The type is Starlette's: `request.session` is a dict of anything there, too.

    __slots__ = ("_accessed", "_before", "_closed", "_marked", "_read")

    def __init__(self, read: Callable[[], JSONObject] | None = None) -> None:
        """Begin unread; `read` gives the data at first access. None: there are none."""
        self._read = read
        self._before = b"{}"
        self._accessed = False
        self._marked = False
        self._closed = False
        if read is not None:
            # C code that looks at the size without asking, such as json.dumps, must not
            # take what is unread for empty.
            super().__setitem__(_UNREAD, None)

    @property
    def accessed(self) -> bool:
        """Whether anything was read or written."""
        return self._accessed

    @property
    def modified(self) -> bool:
        """Whether anything is other than it was read, or `mark_modified` was called.

        Raises `SessionError` for what JSON cannot hold.
        """
        return self._accessed and (self._marked or self.written() != self._before)

    @modified.setter
    def modified(self, value: bool) -> None:
        # Code that was written for Starlette's session sets it for nested changes.
        if value:
            self.mark_modified()

    def mark_accessed(self) -> None:
        """Read the data now. Starlette calls it whenever `request.session` is asked for."""
        self._accessed = True
        if self._read is None:
            return
        data = self._read()
        self._read = None
        super().clear()
        super().update(data)
        self._before = write_data(data)

    def mark_modified(self) -> None:
        """Let the data be written even if they are as they were. Raises `SessionNotWritable`."""
        self._change()
        self._marked = True

    def written(self) -> bytes:
        """Write the data down. Raises `SessionError` for what JSON cannot hold."""
        written = write_data(self)
        if written == self._before:
            return written
        try:
            loads_object(written)
        except InvalidJSON as error:
            problem = str(error)
        else:
            return written
        raise SessionError(f"request.session could not be read again: {problem}")

    def changes(self) -> dict[str, object]:
        """Return the new value of every key that changed, `REMOVED` for those deleted."""
        before, now = read_data(self._before), read_data(self.written())
        changed: dict[str, object] = {
            key: value
            for key, value in now.items()
            # Written down, because True is 1 to Python and not to JSON.
            if key not in before or write_data({key: before[key]}) != write_data({key: value})
        }
        return changed | {key: REMOVED for key in before if key not in now}

    def replace(self, data: JSONObject) -> None:
        """Go on with other data, as unchanged."""
        self._read = None
        self._accessed = True
        super().clear()
        super().update(data)
        self.mark_saved()

    def discard(self) -> None:
        """Go back to what was read."""
        if self._accessed and self._read is None:
            self.replace(read_data(self._before))

    def mark_saved(self) -> None:
        """Take the data as they are for unchanged: they were written."""
        self._before = self.written()
        self._marked = False

    def close(self) -> None:
        """Refuse changes from now on: nothing would save them."""
        self._closed = True

    def check_saved(self) -> None:
        """Raise `SessionNotWritable` if something changed deep inside since it was closed."""
        if self.modified:
            raise SessionNotWritable(_TOO_LATE)

    def _change(self) -> None:
        if self._closed:
            raise SessionNotWritable(_TOO_LATE)
        self.mark_accessed()

    def __getitem__(self, key: str) -> Any:
        self.mark_accessed()
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self._change()
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self._change()
        super().__delitem__(key)

    def __contains__(self, key: object) -> bool:
        self.mark_accessed()
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self.mark_accessed()
        return super().__iter__()

    def __len__(self) -> int:
        self.mark_accessed()
        return super().__len__()

    def __eq__(self, other: object) -> bool:
        self.mark_accessed()
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        self.mark_accessed()
        return super().__ne__(other)

    __hash__ = None

    def __repr__(self) -> str:
        # An error tracker that looks at variables must not read the session by that.
        return "<session data, unread>" if self._read is not None else super().__repr__()

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        # Copies and pickles are plain dicts: what this one is bound to is not theirs.
        return dict, (self.copy(),)

    def __or__(self, other: Any) -> Any:
        self.mark_accessed()
        return super().__or__(other)

    def __ior__(self, other: Any) -> Any:
        self._change()
        return super().__ior__(other)

    def __reversed__(self) -> Iterator[str]:
        self.mark_accessed()
        return super().__reversed__()

    def get(self, key: str, default: Any = None) -> Any:
        """See `dict`."""
        self.mark_accessed()
        return super().get(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        """See `dict`."""
        if key in self:
            self._change()
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        """See `dict`."""
        self._change()
        return super().popitem()

    def setdefault(self, key: str, default: Any = None) -> Any:
        """See `dict`."""
        if key not in self:
            self._change()
        return super().setdefault(key, default)

    def update(self, other: Any = (), /, **more: Any) -> None:
        """See `dict`."""
        self._change()
        super().update(other, **more)

    def clear(self) -> None:
        """See `dict`."""
        self._change()
        super().clear()

    def copy(self) -> dict[str, Any]:
        """Return a plain dict."""
        self.mark_accessed()
        return dict(super().items())

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        """See `dict`."""
        self.mark_accessed()
        return super().keys()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        """See `dict`."""
        self.mark_accessed()
        return super().values()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """See `dict`."""
        self.mark_accessed()
        return super().items()
