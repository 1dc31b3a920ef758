"""The room's one logger."""

import logging

logger = logging.getLogger("agent99.registry")
