"""What Redis does in one step: the Lua scripts of `RedisStore`.

Every key of a script has the same hash tag, so a cluster finds them on one node. The
server's clock is the only one, so the machines of an app need not agree on the time.

A value is `version | write | bytes`: 16 digits, 16 characters and what was given. The
version is the time of the write in microseconds, or one more than the last if that is
greater. So it grows, and none comes again after a deletion, with nothing left behind
to count on from. `write` is random for every write: one that a client sent twice,
because the connection broke before the answer came, is done once and answered twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha1
from typing import Final

HEADER: Final = 32
"""Bytes before the value."""

VERSION: Final = 16
"""Bytes of the version, or of a fence: 16 digits, which last until the year 2286."""

_NOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name under which a server knows it."""

    text: str = field(repr=False)
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)


PUT: Final = Script(
    _NOW
    + """
-- KEYS: value, tombstone. ARGV: version to replace ('' to create), write, ttl, bytes.
local head = redis.call('GETRANGE', KEYS[1], 0, 31)
local version = string.sub(head, 1, 16)
if head ~= '' and string.sub(head, 17) == ARGV[2] then
  return version
end
if version ~= ARGV[1] then
  return false
end
if version == '' and redis.call('EXISTS', KEYS[2]) == 1 then
  return false
end
if version ~= '' then
  now = math.max(now, tonumber(version) + 1)
end
version = string.format('%016.0f', now)
redis.call('SET', KEYS[1], version .. ARGV[2] .. ARGV[4], 'PX', ARGV[3])
return version
"""
)
"""Gives the new version; nil where another one is there, or a tombstone."""

DELETE: Final = Script(
    """
-- KEYS: value, tombstone. ARGV: version ('' for any), write, ttl of the tombstone (0: none).
if redis.call('GET', KEYS[2]) == ARGV[2] then
  return 1
end
if ARGV[1] ~= '' and redis.call('GETRANGE', KEYS[1], 0, 15) ~= ARGV[1] then
  return 0
end
local deleted = redis.call('DEL', KEYS[1])
if tonumber(ARGV[3]) > redis.call('PTTL', KEYS[2]) and ARGV[3] ~= '0' then
  redis.call('SET', KEYS[2], deleted == 1 and ARGV[2] or '', 'PX', ARGV[3])
end
return deleted
"""
)
"""Gives 1 if something was deleted. A tombstone is never made shorter."""

TOUCH: Final = Script(
    """
-- KEYS: values. ARGV: ttl.
for _, key in ipairs(KEYS) do
  redis.call('PEXPIRE', key, ARGV[1])
end
"""
)

ACQUIRE: Final = Script(
    _NOW
    + """
-- KEYS: lease. ARGV: owner, ttl.
local held = redis.call('GET', KEYS[1])
if held then
  return string.sub(held, 17) == ARGV[1] and string.sub(held, 1, 16)
end
local fence = string.format('%016.0f', now)
redis.call('SET', KEYS[1], fence .. ARGV[1], 'PX', ARGV[2])
return fence
"""
)
"""Gives the fence; nil while somebody else has the lease."""

_IF_OWNER: Final = """
-- KEYS: lease. ARGV: owner{more}.
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 17) == ARGV[1] then
  return redis.call({command})
end
return 0
"""

RENEW: Final = Script(_IF_OWNER.format(more=", ttl", command="'PEXPIRE', KEYS[1], ARGV[2]"))
"""Gives 1 if the lease is still the owner's."""

RELEASE: Final = Script(_IF_OWNER.format(more="", command="'DEL', KEYS[1]"))

_MILLISECONDS: Final = (
    _NOW
    + """
now = math.floor(now / 1000)
"""
)

ADD: Final = Script(
    _MILLISECONDS
    + """
-- KEYS: set. ARGV: member, ttl.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], 'GT', now + ARGV[2], ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
"""
)
"""Members whose time is over go first, so a set holds no more than is alive."""

MEMBERS: Final = Script(
    _MILLISECONDS
    + """
-- KEYS: set.
return redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf')
"""
)
