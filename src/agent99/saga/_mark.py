"""The decorator by which a method becomes a saga."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from agent99.agent import Host, bound_operation
from agent99.errors import UsageError

if TYPE_CHECKING:
    from agent99.agent import Signature
    from agent99.dispatch import Handler
    from agent99.envelope import Name

M = TypeVar("M", bound=Callable[..., Any])

_PARAMETER = "saga"


@overload
def saga(method: M, /) -> M: ...


@overload
def saga(*, name: str | None = None, version: int = 1, since: int = 1) -> Callable[[M], M]: ...


def saga(
    method: M | None = None, /, *, name: str | None = None, version: int = 1, since: int = 1
) -> M | Callable[[M], M]:
    """Make a method a durable function: an operation that goes on wherever its process dies.

    Its parameter `saga: Saga` is filled in; the others are the payload, as of `operation`. What it
    does goes through `saga.step`: each step's intent is stored before it runs and its result after,
    and when the function fails what took effect is undone, the last first. Its answer, or its
    error, is kept for seven days.

    Args:
        name: The operation's name; the method's by default.
        version: Of the code, 1 or more; raise it when its steps change. Sagas that an older version
            began find theirs in `saga.version`.
        since: The oldest version whose sagas the code can go on with.

    Delivery: once begun, that is stored, it comes to its end: an answer, or an error with
        everything undone, or stuck and visible (`agent99 saga list`). The same idempotency key is
        the same saga. Whoever waits gets its end, or `PENDING` with its id once his time is up.

    Raises:
        UsageError: the method is not async or has no parameter `saga`, or a version makes no sense.
    """

    def mark(method: M) -> M:
        function = getattr(method, "__func__", method)
        if _PARAMETER not in inspect.signature(function).parameters:
            own = getattr(function, "__name__", repr(method))
            raise UsageError(f"{own} is a saga and takes no parameter `saga: Saga`")
        if not 1 <= since <= version:
            raise UsageError(f"since is {since} and version {version}: 1 <= since <= version")
        return bound_operation(method, name, _SagaBinding((since, version)))

    return mark if method is None else mark(method)


class _SagaBinding:
    """Serves the requests for one saga."""

    def __init__(self, versions: tuple[int, int]) -> None:
        self._versions = versions

    def __repr__(self) -> str:
        return f"_SagaBinding({self._versions})"

    @property
    def given(self) -> frozenset[str]:
        """The saga itself is no part of the payload."""
        return frozenset({_PARAMETER})

    def bind(self, host: Host, operation: Name, attribute: str, signature: Signature) -> Handler:
        """Return the handler of the method's requests, at one instance."""
        from agent99.saga._code import MethodCode  # noqa: PLC0415 - loaded when one is hosted
        from agent99.saga._door import Door  # noqa: PLC0415 - as above
        from agent99.saga._keeper import Keeper  # noqa: PLC0415 - as above

        keeper = host.duty(Keeper)
        code = MethodCode(getattr(host.agent, attribute), operation, signature, self._versions)
        keeper.codes[operation] = code
        return Door(host, keeper, code).serve
