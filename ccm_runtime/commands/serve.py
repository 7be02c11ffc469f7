"""`ccm serve`."""

import os

from ccm_runtime.config import ServerConfig
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.server import run


def serve(**flags: object) -> None:
    """Serve until told to stop. A flag that is `None` was not given: its `CCM_` variable or default holds."""
    config = ServerConfig.resolve({**flags, "bundle": flags.get("bundle") or None}, os.environ)
    if not config.bundle and config.agents is None:
        config = config.model_copy(update={"bundle": (embedded_bundle(),)})
    run(config)
