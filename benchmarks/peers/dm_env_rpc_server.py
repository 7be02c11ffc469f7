"""A policy behind dm_env_rpc: an observation is the action of a step, the action its observation."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
from bare_policy import BarePolicy, announce
from dm_env_rpc.v1 import dm_env_rpc_pb2 as pb
from dm_env_rpc.v1 import dm_env_rpc_pb2_grpc, tensor_utils

PROTOCOL, PATH = "grpc-stream", "/dm_env_rpc.v1.Environment/Process"
_UID = 1


def request(policy: BarePolicy) -> bytes:
    """Ask for an action."""
    told = pb.StepRequest(requested_observations=[_UID])
    told.actions[_UID].CopyFrom(tensor_utils.pack_tensor(policy.example()))
    return pb.EnvironmentRequest(step=told).SerializeToString()


def action(response: bytes) -> list[float]:
    """Read an answer."""
    told = pb.EnvironmentResponse.FromString(response).step.observations[_UID]
    return np.asarray(tensor_utils.unpack_tensor(told)).tolist()


class Environment(dm_env_rpc_pb2_grpc.EnvironmentServicer):
    """Steps alone."""

    def __init__(self, policy: BarePolicy) -> None:
        self._policy = policy

    def Process(  # noqa: N802
        self, requests: Iterator[pb.EnvironmentRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.EnvironmentResponse]:
        """Answer every step."""
        del context
        for asked in requests:
            observation = np.asarray(tensor_utils.unpack_tensor(asked.step.actions[_UID]), np.float32)
            answer = pb.StepResponse(state=pb.RUNNING)
            answer.observations[_UID].CopyFrom(tensor_utils.pack_tensor(self._policy.act(observation[None])[0]))
            yield pb.EnvironmentResponse(step=answer)


def serve_policy(policy: BarePolicy) -> None:
    """Serve until killed; a thread for each stream, as the library's own servers do."""
    server = grpc.server(ThreadPoolExecutor(max_workers=300), options=(("grpc.so_reuseport", 0),))
    dm_env_rpc_pb2_grpc.add_EnvironmentServicer_to_server(Environment(policy), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    announce(port)
    server.wait_for_termination()
