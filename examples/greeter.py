"""The smallest agent: it greets people by name.

$ agent99 run examples/greeter.py
$ agent99 call greeter greet name=Ada
"""

from agent99 import Agent, operation


class Greeter(Agent):
    """Greets people by name."""

    capabilities = ("greeter", "hello_world")

    @operation
    async def greet(self, name: str = "World") -> str:
        """Say hello."""
        return f"Hello, {name}!"
