"""Which optimizers are compared, in the order of a round."""

from __future__ import annotations

from loadtests.optimizers.olive import OLIVE
from loadtests.optimizers.optimum import OPTIMUM
from loadtests.optimizers.tool import Tool

TOOLS: tuple[Tool, ...] = (OLIVE, OPTIMUM)
