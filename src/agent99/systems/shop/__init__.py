"""An order pipeline on real data: orders, stock and payments that close to the penny.

Given:       orders of customers, as messages; a file of order lines to replay; URLs of databases.
Gives:       five agents' logic over stores, the year in memory, and a check of the end result that
             shares no code with them; Failure with the sample's codes, DataFileError.
May import:  errors clock ids store agent99; msgspec polars sqlalchemy
Never:       holds money in floats, trusts a client's price, imports polars before it reads a file.
"""

from agent99.systems.shop._errors import DataFileError, IllegalTransitionError, MoneyError

__all__ = ["DataFileError", "IllegalTransitionError", "MoneyError"]
