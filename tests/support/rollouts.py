"""A folder of agents whose versions are tiny bundles, and a server over it."""

from contextlib import asynccontextmanager

import grpc
from tiny_bundle import tiny_graphs, write_bundle

from ccm_runtime.config import ServerConfig
from ccm_runtime.folder_watch import FolderWatch
from ccm_runtime.library import Library
from ccm_runtime.patience import Patience
from ccm_runtime.releases import served_from
from ccm_runtime.server import Server, read_agent
from ccm_runtime.testing import ScriptedPolicy, manifest_of
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1 import admin_pb2
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationStub
from ccm_runtime.v1.admin_pb2_grpc import AdminStub

LIMIT_S = 20.0
ROLES = {number: name.removeprefix("ROLE_").lower() for name, number in admin_pb2.Role.items()}


def publish(folder, agent, version, policy=None, family="scripted"):
    """Write a version as an operator would: complete, then renamed into place."""
    manifest = manifest_of(policy or ScriptedPolicy(), family)
    (folder / agent).mkdir(parents=True, exist_ok=True)
    made = write_bundle(folder / agent / f".{version}", manifest, tiny_graphs(manifest), f"# {agent} {version}\n")
    return made.rename(folder / agent / version)


class Served:
    """A server over a folder of agents, and calls to it."""

    def __init__(self, server, channel):
        self.server, self.hosting, self.releases = server, server.hosting, server.releases
        self.watch = FolderWatch(server.hosting, server.releases, server.releases._library)
        self.address = f"127.0.0.1:{server.port}"
        self.stub, self.admin = AdaptationStub(channel), AdminStub(channel)

    async def open(self, **options):
        return await self.stub.OpenSession(pb.OpenSessionRequest(**options), timeout=LIMIT_S)

    async def tell(self, opened, sequence, *, begin=False, over=False, reward=0.0):
        """One event; the answer."""
        seen = {"observation": [0.5, 0.25]}
        kind = (
            {"begin_episode": pb.BeginEpisode(**seen)}
            if begin
            else {"transition": pb.Transition(**seen, reward=reward, truncated=over)}
        )
        event = pb.Event(sequence=sequence, **kind)
        request = pb.StepRequest(session_id=opened.session_id, token=opened.token, event=event)
        return (await self.stub.Step(request, timeout=LIMIT_S)).answer

    async def episode(self, opened, sequence, reward=1.0):
        """A whole episode of one transition, from event `sequence` on; the last answer."""
        await self.tell(opened, sequence, begin=True)
        return await self.tell(opened, sequence + 1, over=True, reward=reward)

    async def close(self, opened):
        request = pb.CloseSessionRequest(session_id=opened.session_id, token=opened.token)
        return await self.stub.CloseSession(request, timeout=LIMIT_S)

    async def versions(self, agent):
        """The loaded versions of an agent, by name: their roles."""
        listed = await self.admin.ListAgents(admin_pb2.ListAgentsRequest(), timeout=LIMIT_S)
        (found,) = [rollout for rollout in listed.agents if rollout.agent == agent]
        return {version.version: ROLES[version.role] for version in found.versions}

    async def load(self, agent, version, **options):
        request = admin_pb2.LoadVersionRequest(agent=agent, version=version, **options)
        return await self.admin.LoadVersion(request, timeout=LIMIT_S)

    def version_of(self, opened):
        """Name of the version that steps a session."""
        return self.hosting.roster.of(self.hosting.table.find(opened.session_id)).name


@asynccontextmanager
async def serving_library(folder, **settings):
    """Serve a folder of agents."""
    config = ServerConfig(**{"port": 0, "log_level": "error", "agents": folder, "max_batch": 4, **settings})
    library = Library(folder)
    agents = served_from(library, lambda path: read_agent(path, config), Patience(config.load_limit_s))
    server = Server(agents, config, library=library)
    port = await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Served(server, channel)
    finally:
        await server.stop()
