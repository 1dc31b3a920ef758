"""How a saga's function is ended from inside one of its own calls."""

from __future__ import annotations

from typing import Literal

from agent99.saga._records import Error, StepId

Reason = Literal["turned", "left", "lost", "stuck"]
"""`turned`: it is to be undone. `left`: its instance stops. `lost`: it is another's now. `stuck`:
somebody has to mend something first."""


class Halt(BaseException):
    """Ends the function, past every `except Exception` of its author."""

    def __init__(
        self, reason: Reason, error: Error | None = None, step: StepId | None = None
    ) -> None:
        super().__init__(reason)
        self.reason: Reason = reason
        self.error = error
        self.step = step
