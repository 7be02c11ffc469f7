"""The operator's RPCs: list agents, load, promote and roll back versions."""

from collections import Counter

from ccm_runtime.answering import Answering, Call, answering
from ccm_runtime.hosting import Hosting
from ccm_runtime.releases import Releases
from ccm_runtime.v1 import admin_pb2 as pb
from ccm_runtime.v1.admin_pb2_grpc import AdminServicer
from ccm_runtime.versions import Role

_ROLES = {
    Role.CURRENT: pb.ROLE_CURRENT,
    Role.CANDIDATE: pb.ROLE_CANDIDATE,
    Role.PREVIOUS: pb.ROLE_PREVIOUS,
    Role.LEAVING: pb.ROLE_LEAVING,
}


class AdminService(Answering, AdminServicer):
    """`ccm_runtime.v1.Admin` over the agents of a server."""

    def __init__(self, hosting: Hosting, releases: Releases) -> None:
        self.hosting = hosting
        self._releases = releases

    @answering
    async def ListAgents(self, request: pb.ListAgentsRequest, context: Call) -> pb.ListAgentsResponse:
        """Say what is loaded."""
        return pb.ListAgentsResponse(agents=[self._told(agent) for agent in self.hosting.roster])

    @answering
    async def LoadVersion(self, request: pb.LoadVersionRequest, context: Call) -> pb.Rollout:
        """Load a version."""
        await self._releases.load(request.agent, request.version, share=request.share, move=request.move)
        return self._told(request.agent)

    @answering
    async def Promote(self, request: pb.PromoteRequest, context: Call) -> pb.Rollout:
        """Make the candidate current."""
        await self._releases.promote(request.agent, move=request.move)
        return self._told(request.agent)

    @answering
    async def RollBack(self, request: pb.RollBackRequest, context: Call) -> pb.Rollout:
        """Take the candidate or the last change back."""
        await self._releases.roll_back(request.agent, move=request.move)
        return self._told(request.agent)

    def _told(self, agent: str) -> pb.Rollout:
        roster = self.hosting.roster
        rollout = roster.rollout(agent)
        num_on = Counter(session.bundle_digest for session in self.hosting.table)
        name = rollout.current.agent.name
        versions = [
            pb.Version(
                version=version.name,
                bundle_digest=version.digest,
                role=_ROLES[rollout.role(version)],
                sessions=num_on[version.digest],
                opened=version.tally.num_opened,
                episodes=version.tally.num_episodes,
                mean_return=version.tally.mean_return,
                interventions=version.tally.num_interventions,
                misses=version.tally.num_misses,
                failures=version.tally.num_failures,
            )
            for version in roster.of_agent(name)
        ]
        return pb.Rollout(agent=name, share=rollout.share, versions=versions)
