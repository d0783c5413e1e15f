"""Small sealed cookies with a meaning of their own: the way back of a logout, and a loop guard."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from ..protocol.json import InvalidJSON, loads_object
from ..sealing import Unsealable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..clock import Clock
    from ..protocol.json import JSON, JSONObject
    from ..sealing import KeyRing
    from .cookies import Cookie, Headers

LOOP: Final = 3
"""Logins in a row that one browser may finish within `LOOP_SECONDS` and have nothing of them."""

LOOP_SECONDS: Final = 60.0


class Mark:
    """A sealed JSON object in a cookie, for a while."""

    def __init__(self, ring: KeyRing, cookie: Cookie, *, purpose: str) -> None:
        self._ring = ring
        self._cookie = cookie
        self._purpose = purpose

    def read(self, headers: Headers) -> JSONObject | None:
        """Return what was written; None if there is nothing of ours."""
        sealed = self._cookie.read(headers).value
        if sealed is None:
            return None
        try:
            opened = self._ring.open(sealed, purpose=self._purpose, record=self._cookie.full_name)
            return loads_object(opened.plaintext)
        except (Unsealable, InvalidJSON):
            return None

    def write(self, value: Mapping[str, JSON], *, max_age: float) -> list[bytes]:
        """Return the Set-Cookie values that keep `value` for `max_age` seconds."""
        plaintext = json.dumps(dict(value), separators=(",", ":")).encode()
        sealed = self._ring.seal(plaintext, purpose=self._purpose, record=self._cookie.full_name)
        return self._cookie.write(sealed, max_age=max_age)

    def clear(self, headers: Headers) -> list[bytes]:
        """Return the Set-Cookie values that forget it; none if the browser has none."""
        reading = self._cookie.read(headers)
        return self._cookie.clear(reading) if reading.names else []


class LoopGuard:
    """Notices a browser that logs in again and again, and is sent to log in once more.

    It keeps the cookies of the attempt and loses that of the session, or its tokens are
    over as soon as they come; without this it would be sent to and fro for ever. A login
    that is still of use when the next one begins is none of these: `forget` it.
    """

    def __init__(self, mark: Mark, *, clock: Clock) -> None:
        self._mark = mark
        self._clock = clock

    def finished(self, headers: Headers) -> list[bytes]:
        """Return the Set-Cookie values that count one more finished login."""
        recent = [*self._recent(headers), float(self._clock())][-LOOP:]
        return self._mark.write({"at": [*recent]}, max_age=LOOP_SECONDS)

    def forget(self, headers: Headers) -> list[bytes]:
        """Return the Set-Cookie values that begin anew: the last login was of use."""
        return self._mark.clear(headers)

    def is_counting(self, headers: Headers) -> bool:
        """Tell whether this browser has finished a login just now."""
        return bool(self._recent(headers))

    def is_looping(self, headers: Headers) -> bool:
        """Tell whether this browser has finished too many logins just now."""
        return len(self._recent(headers)) >= LOOP

    def _recent(self, headers: Headers) -> list[float]:
        since = self._clock() - LOOP_SECONDS
        times = (self._mark.read(headers) or {}).get("at")
        listed = times if isinstance(times, list) else []
        return [time for time in listed if isinstance(time, float) and time > since]
