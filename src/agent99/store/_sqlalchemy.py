"""The one door to SQLAlchemy, so that its absence is one sentence instead of a riddle."""

try:
    import sqlalchemy
    from sqlalchemy import exc, pool
except ImportError as error:  # pragma: no cover - a test's child process goes this way
    message = (
        "agent99.store needs SQLAlchemy: install agent99 with its extra 'store':"
        " pip install '.[store]' in a checkout"
    )
    raise ImportError(message) from error

__all__ = ["exc", "pool", "sqlalchemy"]
