"""One agent in front of others: it asks every station, remembers, and says how old its answer is.

$ agent99 run examples/weather_proxy.py
$ agent99 call weather forecast city=Oslo
"""

import hashlib
from typing import Literal

import msgspec

from agent99 import Agent, Failure, operation

REMEMBERED_CITIES_MAX = 1_000


class Reading(msgspec.Struct):
    """What one station measures."""

    city: str
    celsius: float
    station: str


class Forecast(msgspec.Struct):
    """What the proxy makes of the readings."""

    city: str
    celsius: float
    stations: int
    source: Literal["live", "remembered"]


class WeatherStation(Agent):
    """Measures; a stand-in for an outside service, the same for the same city."""

    capabilities = ("weather_station",)

    @operation(idempotent=True)
    async def measure(self, city: str) -> Reading:
        """Return the temperature in a city."""
        digest = hashlib.sha256(f"{city.lower()}".encode()).digest()
        return Reading(city, round(digest[0] / 255 * 45 - 10, 1), self.instance)


class WeatherProxy(Agent):
    """Asks all stations and answers with their mean; with the last one when no station answers."""

    capabilities = ("weather",)
    uses = ("weather_station",)

    class Config(msgspec.Struct):
        """Can be changed while it runs: `agent99 ctl update_config weather-proxy patience_s=2`."""

        patience_s: float = 1.0

    async def start(self) -> None:
        """Begin with nothing remembered."""
        self.remembered: dict[str, Forecast] = {}

    @operation(idempotent=True)
    async def forecast(self, city: str) -> Forecast:
        """Return the mean of what the stations say."""
        survey = await self.survey(
            "weather_station",
            "measure",
            {"city": city},
            returns=Reading,
            timeout_s=self.config.patience_s,
        )
        readings: list[Reading] = survey.results
        if readings:
            mean = sum(reading.celsius for reading in readings) / len(readings)
            forecast = Forecast(city, round(mean, 1), len(readings), "live")
            if len(self.remembered) >= REMEMBERED_CITIES_MAX:
                self.remembered.pop(next(iter(self.remembered)))
            self.remembered[city.lower()] = forecast
            return forecast
        known = self.remembered.get(city.lower())
        if known is None:
            raise Failure(f"no station answers for {city}", code="NO_READING", retryable=True)
        return msgspec.structs.replace(known, source="remembered")
