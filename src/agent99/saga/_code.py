"""A saga's function as a method of an agent: how it is called, and how its answer is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent99.agent import Signature
    from agent99.saga._handle import Saga
    from agent99.saga._records import Finished


class MethodCode:
    """One `@saga` method of one hosted agent.

    Args:
        function: The method, bound.
        operation: What it is called.
        signature: From payload to arguments, and from answer to bytes.
        versions: The oldest whose sagas it goes on with, and the code's own.
    """

    def __init__(
        self,
        function: Callable[..., Awaitable[Any]],
        operation: str,
        signature: Signature,
        versions: tuple[int, int],
    ) -> None:
        self.operation = operation
        self.since, self.version = versions
        self._function = function
        self._signature = signature

    def __repr__(self) -> str:
        return f"MethodCode({self.operation!r}, version={self.version})"

    async def call(self, request: bytes, saga: Saga) -> tuple[bytes, bool]:
        """Run it, and return its answer, and whether that is a value and no object.

        Raises:
            BadRequestError: the journal's request is of another type than the code's.
            HandlerError: the answer is not of the type that it declares.
            whatever it raises.
        """
        payload = self._signature.body.decode_body(request)
        positional, keywords = self._signature.arguments(payload)
        answer = await self._function(*positional, **keywords, saga=saga)
        outcome, body = self._signature.answer.encode(answer)
        return body, outcome == "value"

    def read(self, finished: Finished) -> Any:
        """Return the answer of a saga that is done.

        Raises:
            BadAnswerError: it is not of the type that the code declares now.
        """
        codec, body = self._signature.answer, bytes(finished.answer)
        return codec.decode_body("value" if finished.is_value else "ok", body)
