"""What the supervisor says to the user that started it."""

from __future__ import annotations

import json
import os


class StartFailedError(Exception):
    """The server does not start; `kind` is `start` or `state` and chooses the user's error."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class Report:
    """The pipe to the user that started us; takes one word.

    Invariant: the handle is closed once the word is said.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __repr__(self) -> str:
        return f"Report(said={self._handle < 0})"

    def say(self, **what: object) -> None:
        """Say it, unless something was said before."""
        handle, self._handle = self._handle, -1
        if handle < 0:
            return
        try:
            os.write(handle, json.dumps(what).encode())
        except BrokenPipeError:
            pass  # that user is gone; others may be there
        finally:
            os.close(handle)
