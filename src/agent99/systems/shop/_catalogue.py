"""The price list: what each product may cost (rule 6). Pure.

A wholesaler sells one product at several prices, by tier. A client may choose a tier, never
invent a price, and never set the price of a product that the shop does not sell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from uuid import UUID

from agent99.errors import Failure
from agent99.systems.shop._model import PRICE_MISMATCH, OrderLine
from agent99.systems.shop._money import to_pounds


class PriceList:
    """The prices of every product, in pence.

    Invariant: every product has at least one price, and every price is at least one penny.
    """

    def __init__(self, prices: Mapping[UUID, frozenset[int]]) -> None:
        self._prices = dict(prices)
        self._check()

    @classmethod
    def of(cls, pairs: Iterable[tuple[UUID, int]]) -> PriceList:
        """Return the list of pairs of a product and one of its prices in pence."""
        prices: dict[UUID, set[int]] = {}
        for product_id, price_pence in pairs:
            prices.setdefault(product_id, set()).add(price_pence)
        return cls({product_id: frozenset(found) for product_id, found in prices.items()})

    def __repr__(self) -> str:
        return f"PriceList(products={len(self)}, prices={self.pairs()})"

    def __len__(self) -> int:
        return len(self._prices)

    def __contains__(self, product_id: object) -> bool:
        return product_id in self._prices

    def __iter__(self) -> Iterator[tuple[UUID, int]]:
        """Yield every pair of a product and a price, both in order."""
        for product_id in sorted(self._prices):
            for price_pence in sorted(self._prices[product_id]):
                yield product_id, price_pence

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PriceList) and other._prices == self._prices

    __hash__ = None  # type: ignore[assignment]  # a list of prices is compared, never a key

    def pairs(self) -> int:
        """Return how many prices there are, over all products."""
        return sum(map(len, self._prices.values()))

    def prices(self, product_id: UUID) -> frozenset[int]:
        """Return the prices of a product in pence; none for a product that is not sold."""
        return self._prices.get(product_id, frozenset())

    def refuse_invented(self, lines: Iterable[OrderLine]) -> None:
        """Return when every line quotes a price of the list.

        Raises:
            Failure: `PRICE_MISMATCH`, with the line's place, product and price, and the prices.
        """
        for index, line in enumerate(lines):
            known = self.prices(line.product_id)
            if line.unit_price_pence in known:
                continue
            why = "is not one of its prices" if known else "is for a product that is not sold"
            raise Failure(
                f"the unit price {line.unit_price} of product {line.product_id} {why}",
                code=PRICE_MISMATCH,
                details={
                    "path": f"$.items[{index}].unit_price",
                    "product_id": str(line.product_id),
                    "unit_price": str(line.unit_price),
                    "prices": [str(to_pounds(pence)) for pence in sorted(known)],
                },
            )

    def _check(self) -> None:
        for product_id, found in self._prices.items():
            if not found or min(found) < 1:
                message = f"product {product_id} has no price, or one below a penny: {found}"
                raise ValueError(message)
