"""What a Hub on loopback was asked and what it answered, and the faults that are planted in it."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Exchange:
    """One answered request: what was asked, and how many bytes of a body went out and came in."""

    method: str
    path: str
    range: str | None
    authorization: str | None
    status: int
    first_byte: int
    sent_bytes: int
    received_bytes: int


class Log(list[Exchange]):
    """The exchanges of a recording, oldest first."""

    def of(self, path: str, method: str = "*") -> Log:
        """Return the exchanges whose path and method match these globs."""
        return Log(e for e in self if fnmatchcase(e.path, path) and fnmatchcase(e.method, method))

    def sent_bytes(self, path: str = "*") -> int:
        """Return the body bytes sent for the paths that match a glob."""
        return sum(e.sent_bytes for e in self.of(path))

    def received_bytes(self, path: str = "*") -> int:
        """Return the body bytes that came for the paths that match a glob."""
        return sum(e.received_bytes for e in self.of(path))

    def spans(self, path: str) -> list[tuple[int, int]]:
        """Return the sorted half-open intervals of file bytes sent for a glob, as often as sent."""
        sent = [e for e in self.of(path) if e.sent_bytes]
        return sorted((e.first_byte, e.first_byte + e.sent_bytes) for e in sent)


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the requests whose path and method match two globs.

    Attributes:
        path: glob for the path of a request, below `/cdn/` for the body of a large file.
        method: glob for its method.
        times: how many requests are hit, None for all. Each one that matches counts, so a fault
            of a large file's body names `/cdn/` and GET.
        delay_s: how long the answer is held back.
        status: status that replaces the answer.
        headers: headers of the answer that `status` or `body` makes, or else of a file's answer
            in place of its own.
        body: body of 200, or of `status`, in place of the answer.
        endless: whether the body of `body` is sent again and again.
        cut_after_bytes: the connection is closed after so many bytes of the body.
        flip_byte: offset in the file of a byte that is changed.
        ignore_range: the whole file is sent to a request for a part of it.
        lost_file: glob for names of files that a commit leaves out, without saying so.
    """

    path: str
    method: str = "*"
    times: int | None = None
    delay_s: float = 0.0
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    endless: bool = False
    cut_after_bytes: int | None = None
    flip_byte: int | None = None
    ignore_range: bool = False
    lost_file: str | None = None

    def matches(self, method: str, path: str) -> bool:
        """Tell whether a request is one of those that this fault may hit."""
        return fnmatchcase(path, self.path) and fnmatchcase(method, self.method)


def gated(path: str = "*") -> Fault:
    """Return the Hub's answer to a user who may not read a gated repository."""
    headers = error_headers("Access to this model is restricted", code="GatedRepo")
    return Fault(path, status=403, headers=tuple(headers.items()))


def invalid_token(path: str = "*") -> Fault:
    """Return the Hub's answer to a token that it does not know."""
    headers = error_headers("Invalid credentials in Authorization header")
    return Fault(path, status=401, headers=tuple(headers.items()))


def error_headers(message: str, *, code: str | None = None) -> dict[str, str]:
    """Return the headers by which the Hub says what is wrong."""
    return {"x-error-message": message, **({"x-error-code": code} if code else {})}
