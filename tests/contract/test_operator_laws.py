"""Laws of what an operator is told by `ccm agents` when a server cannot do what it is asked, over a real server."""

import asyncio
from functools import partial

import pytest
from rollouts import publish, serving_library

from ccm_runtime.commands import agents as commands
from ccm_runtime.commands.access import Access
from ccm_runtime.errors import DeviceLostError, ServerUnreachableError
from ccm_runtime.inference import OnnxPolicy


async def test_who_changes_versions_is_told_the_servers_own_reason_and_not_that_nobody_answers(tmp_path, monkeypatch):
    for version in ("v1", "v2"):
        publish(tmp_path, "walker", version)
    (tmp_path / "walker" / "current").symlink_to("v1")

    def lost(*_):
        raise DeviceLostError("the GPU failed")

    async with serving_library(tmp_path) as served:
        await served.load("walker", "v2")
        monkeypatch.setattr(OnnxPolicy, "fold", lost)
        roll_back = partial(commands.roll_back, served.address, Access(), "walker", move=False, as_json=False)
        with pytest.raises(ServerUnreachableError, match=r"the server's GPU failed, .* its log says why"):
            await asyncio.to_thread(roll_back)
    with pytest.raises(ServerUnreachableError, match="nobody answers"):
        await asyncio.to_thread(roll_back)
