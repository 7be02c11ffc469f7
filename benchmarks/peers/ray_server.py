"""A policy behind Ray Serve's gRPC proxy, in the words of ccm's own stateless call `Act`."""

import os
import sys
import threading
from pathlib import Path

import numpy as np
from bare_policy import BarePolicy, announce, free_port

sys.path.append(str(Path(__file__).parents[2]))
from ccm_runtime.v1 import adaptation_pb2 as pb

PROTOCOL, PATH = "grpc-unary", "/ccm_runtime.v1.Adaptation/Act"


def request(policy: BarePolicy) -> bytes:
    """Ask for an action."""
    return pb.ActRequest(observation=policy.example().tolist()).SerializeToString()


def action(response: bytes) -> list[float]:
    """Read an answer."""
    return list(pb.ActResponse.FromString(response).action)


def serve_policy(policy: BarePolicy) -> None:
    """Serve until killed."""
    del policy  # its replica loads its own
    folder = os.environ["PEER_BUNDLE"]
    import ray  # noqa: PLC0415
    from ray import serve  # noqa: PLC0415
    from ray.serve.config import gRPCOptions  # noqa: PLC0415

    here = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": ":".join(here)}},
    )
    port = free_port()
    grpc_options = gRPCOptions(
        port=port, grpc_servicer_functions=["ccm_runtime.v1.adaptation_pb2_grpc.add_AdaptationServicer_to_server"]
    )
    serve.start(http_options={"host": "127.0.0.1", "port": free_port()}, grpc_options=grpc_options)

    @serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0})
    class Policy:
        """The policy in Ray Serve's words."""

        def __init__(self) -> None:
            self._policy = BarePolicy(folder)

        async def Act(self, asked: pb.ActRequest) -> pb.ActResponse:  # noqa: N802
            """Act."""
            observation = np.asarray([asked.observation], np.float32)
            return pb.ActResponse(action=self._policy.act(observation)[0].tolist())

    serve.run(Policy.bind(), name="policy", route_prefix="/")
    announce(port)
    threading.Event().wait()
