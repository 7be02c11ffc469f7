"""A policy behind Triton (its C++ front end and dynamic batching, Python behind it), as PyTriton installs it."""

import os
import sysconfig
import threading
from typing import Any

import numpy as np
from bare_policy import BarePolicy, announce, free_port
from v2_request import PATH, PROTOCOL, action, request

__all__ = ["PATH", "PROTOCOL", "action", "request", "serve_policy"]


def serve_policy(policy: BarePolicy) -> None:
    """Serve until killed."""
    from pytriton.decorators import batch  # noqa: PLC0415
    from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor  # noqa: PLC0415
    from pytriton.triton import Triton, TritonConfig  # noqa: PLC0415

    @batch
    def act(observation: Any) -> Any:
        return {"action": policy.act(observation)}

    # The Python inside Triton must be this one.
    os.environ["LD_LIBRARY_PATH"] = f"{sysconfig.get_config_var('LIBDIR')}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    port = free_port()
    config = TritonConfig(
        grpc_address="127.0.0.1",
        grpc_port=port,
        http_address="127.0.0.1",
        http_port=free_port(),
        metrics_port=free_port(),
        log_verbose=0,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="policy",
            infer_func=act,
            inputs=[Tensor(name="observation", dtype=np.float32, shape=(policy.observation_size,))],
            outputs=[Tensor(name="action", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=100)),
        )
        triton.run()
        announce(port)
        threading.Event().wait()
