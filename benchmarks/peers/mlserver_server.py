"""A policy behind MLServer (V2 inference protocol, gRPC), in its own process, without its batching, which is slower."""

import asyncio
import os
from typing import Any

import numpy as np
from bare_policy import BarePolicy, announce_when, free_port
from mlserver import MLModel, MLServer
from mlserver.settings import ModelParameters, ModelSettings, Settings
from mlserver.types import InferenceRequest, InferenceResponse
from v2_request import PATH, PROTOCOL, action, request

__all__ = ["PATH", "PROTOCOL", "action", "request", "serve_policy"]


class Policy(MLModel):
    """The policy in MLServer's words."""

    async def load(self) -> bool:
        """Load it."""
        self._policy = BarePolicy(os.environ["PEER_BUNDLE"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Act."""
        told = payload.inputs[0]
        raw: Any = told.data.root
        observation = np.frombuffer(raw, np.float32) if isinstance(raw, bytes) else np.asarray(raw, np.float32)
        acted = self._policy.act(observation.reshape(told.shape))
        output = {"name": "action", "shape": list(acted.shape), "datatype": "FP32", "data": acted.ravel().tolist()}
        return InferenceResponse(model_name=self.name, outputs=[output])


async def run(port: int) -> None:
    """Serve until killed."""
    settings = Settings(
        host="127.0.0.1",
        http_port=free_port(),
        grpc_port=port,
        metrics_port=free_port(),
        metrics_endpoint=None,
        parallel_workers=0,
    )
    model = ModelSettings(name="policy", implementation=Policy, parameters=ModelParameters(version="1"))
    await MLServer(settings).start([model])


def serve_policy(policy: BarePolicy) -> None:
    """Serve until killed."""
    import grpc  # noqa: PLC0415

    port, example = free_port(), request(policy)

    def ask() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            channel.unary_unary(PATH)(example, timeout=1)

    announce_when(port, ask)
    asyncio.run(run(port))
