"""The calls of the shared memory extensions: system's where it is turned on, and of cuda's the one that is harmless."""

from __future__ import annotations

from server.api.shared_memory import Regions, offered
from server.api.v2_extensions import NO_CUDA
from server.errors import Unsupported
from server.grpc_api import messages as pb
from server.grpc_api.call import Call


class SharedMemory:
    """The calls over one table of regions; None: shared memory is turned off."""

    def __init__(self, regions: Regions | None) -> None:
        self._regions = regions

    def calls(self) -> dict[str, Call]:
        """By method. They are guarded where they can do something."""
        guarded = self._regions is not None
        return {
            "SystemSharedMemoryStatus": Call(pb.SystemSharedMemoryStatusRequest, self._status, guarded),
            "SystemSharedMemoryRegister": Call(pb.SystemSharedMemoryRegisterRequest, self._register, guarded),
            "SystemSharedMemoryUnregister": Call(pb.SystemSharedMemoryUnregisterRequest, self._unregister, guarded),
            "CudaSharedMemoryUnregister": Call(pb.CudaSharedMemoryUnregisterRequest, self._unregister_cuda),
        }

    async def _status(self, request: pb.SystemSharedMemoryStatusRequest) -> pb.SystemSharedMemoryStatusResponse:
        reply = pb.SystemSharedMemoryStatusResponse()
        for region in self._offered().status(request.name):
            reply.regions[region.name].MergeFrom(pb.SystemSharedMemoryStatusResponse.RegionStatus(**region.to_json()))
        return reply

    async def _register(self, request: pb.SystemSharedMemoryRegisterRequest) -> pb.SystemSharedMemoryRegisterResponse:
        self._offered().register(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    async def _unregister(self, request: pb.SystemSharedMemoryUnregisterRequest) -> pb.SystemSharedMemoryUnregisterResponse:
        """Without a name all; that is harmless where nothing can be registered, and clients call it before anything else."""
        if request.name:
            self._offered().unregister(request.name)
        elif self._regions is not None:
            self._regions.unregister_all()
        return pb.SystemSharedMemoryUnregisterResponse()

    async def _unregister_cuda(self, request: pb.CudaSharedMemoryUnregisterRequest) -> pb.CudaSharedMemoryUnregisterResponse:
        if request.name:
            raise Unsupported(NO_CUDA)
        return pb.CudaSharedMemoryUnregisterResponse()

    def _offered(self) -> Regions:
        return offered(self._regions, "the system shared memory extension")
