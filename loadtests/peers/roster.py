"""Who is compared, in the order of a round."""

from __future__ import annotations

from loadtests.peers.bentoml import BENTOML
from loadtests.peers.fastapi import FASTAPI
from loadtests.peers.ferry import FERRY
from loadtests.peers.litserve import LITSERVE
from loadtests.peers.mlserver import MLSERVER
from loadtests.peers.mosec import MOSEC
from loadtests.peers.peer import Peer
from loadtests.peers.ray_serve import RAY_SERVE
from loadtests.peers.triton import TRITON

ROSTER: tuple[Peer, ...] = (FERRY, TRITON, MOSEC, FASTAPI, MLSERVER, LITSERVE, BENTOML, RAY_SERVE)
