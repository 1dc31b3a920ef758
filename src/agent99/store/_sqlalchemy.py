"""The one door to SQLAlchemy, so that its absence is one sentence instead of a riddle."""

from agent99.errors import how_to_install

try:
    import sqlalchemy
    from sqlalchemy import exc, pool
except ImportError as error:  # pragma: no cover - a test's child process goes this way
    message = f"agent99.store needs SQLAlchemy: {how_to_install('store')}"
    raise ImportError(message) from error

__all__ = ["exc", "pool", "sqlalchemy"]
