"""What every process of a server in several processes does first."""

from __future__ import annotations

import logging

from server.fleet.child import Orders
from server.settings import Settings, read_settings


def settings_of(orders: Orders) -> Settings:
    """The supervisor's settings, and a log that tells the processes apart."""
    settings = read_settings(orders.settings, None)
    logging.basicConfig(level=settings.log_level.upper(), format=f"%(asctime)s %(levelname)s {orders.name}: %(message)s")
    return settings
