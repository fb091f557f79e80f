"""The protocol's messages, made from the compiled definition in `generated/`.

They live in a pool of their own: a process that also holds another definition of the same names, such as a client
library's, has no conflict. Nothing but the classes is here.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

if TYPE_CHECKING:
    from server.grpc_api.generated.health_pb2 import *  # noqa: F403
    from server.grpc_api.generated.inference_pb2 import *  # noqa: F403

INFERENCE_SERVICE = "inference.GRPCInferenceService"
HEALTH_SERVICE = "grpc.health.v1.Health"

_PACKAGES = ("inference", "grpc.health.v1")


@cache
def protocol() -> DescriptorPool:
    """The pool that holds both services and their messages."""
    pool = DescriptorPool()
    compiled = files("server.grpc_api") / "generated" / "protocol.binpb"
    for file in FileDescriptorSet.FromString(compiled.read_bytes()).file:
        pool.Add(file)
    return pool


def __getattr__(name: str) -> Any:
    """A message class by its name, made when it is first asked for."""
    for package in _PACKAGES:
        try:
            found = GetMessageClass(protocol().FindMessageTypeByName(f"{package}.{name}"))
        except KeyError:
            continue
        globals()[name] = found
        return found
    raise AttributeError(f"the protocol has no message {name!r}")
