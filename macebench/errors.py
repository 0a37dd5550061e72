"""Errors with a remedy.

A `UserError` names what was given, what is allowed and the command that helps; the command line
prints it without a traceback and exits 2. `Unscorable` is no failure of the program: it is the
reason why one clip has no value, and it is counted, never turned into a number.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_USER_ERROR = 2
EXIT_UNSCORED = 3


class MacebenchError(Exception):
    """Base class of every error that this package raises on purpose."""


class UserError(MacebenchError):
    """Bad input: what was given, what is allowed, and the command that helps.

    Args:
        message: One sentence that names the file or the value.
        hint: What to do about it; a command where there is one.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the hint when the error crosses a process border."""
        return (_rebuild_user_error, (type(self), self.message, self.hint))


def _rebuild_user_error(kind: type[UserError], message: str, hint: str) -> UserError:
    return kind(message, hint=hint)


class UnknownNameError(UserError):
    """A name that no registry knows."""


class DuplicateNameError(UserError):
    """Two things want the same registered name."""


class WeightsMissingError(UserError):
    """A weights file is not on this machine; the hint is the command that gets it."""


class WeightsCorruptError(UserError):
    """A weights file does not have the SHA-256 of the table."""


class MediaError(MacebenchError):
    """A video or audio file that cannot be read; the text is the reason shown to the user.

    Args:
        reason: Short and stable, such as ``"not a media file"``: reasons are counted.
        detail: What the decoder said, for the log.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason if not detail else f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[object, ...]:
        """Keep both fields when the error crosses a process border."""
        return (type(self), (self.reason, self.detail))


class Unscorable(MacebenchError):  # noqa: N818 - it is a reason, not a failure
    """One clip has no value for one metric.

    Args:
        reason: Short and stable, such as ``"no person"``: reasons are counted in the result.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
