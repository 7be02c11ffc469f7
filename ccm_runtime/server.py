"""The life of a serving process: start, say so, serve, drain, stop."""

import asyncio
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ccm_runtime.admin import AdminService
from ccm_runtime.awake import awake
from ccm_runtime.bundle import load_bundle
from ccm_runtime.condition import Condition, turns
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import ConfigError
from ccm_runtime.event_loop import run as run_loop
from ccm_runtime.folder_watch import FolderWatch
from ccm_runtime.front_door import FrontDoor
from ccm_runtime.health import Health
from ccm_runtime.hosting import Hosting, ServedAgent
from ccm_runtime.inference import OnnxPolicy
from ccm_runtime.library import Library
from ccm_runtime.limits import laid_over
from ccm_runtime.metrics import expose
from ccm_runtime.notify import tell_alive
from ccm_runtime.page import serve_page
from ccm_runtime.page.view import viewer
from ccm_runtime.patience import Patience
from ccm_runtime.presence import Presence
from ccm_runtime.releases import Releases, served_from
from ccm_runtime.resumption import Resumption
from ccm_runtime.service import Service
from ccm_runtime.session import SessionTable
from ccm_runtime.tenants import TokenFile
from ccm_runtime.tls import server_credentials
from ccm_runtime.traces import tracing_of
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1 import admin_pb2
from ccm_runtime.v1.adaptation_pb2_grpc import add_AdaptationServicer_to_server
from ccm_runtime.v1.admin_pb2_grpc import add_AdminServicer_to_server
from ccm_runtime.web import Web

if TYPE_CHECKING:
    from ccm_runtime.tracing import Tracing

SERVICE = pb.DESCRIPTOR.services_by_name["Adaptation"].full_name
_ADMIN = admin_pb2.DESCRIPTOR.services_by_name["Admin"].full_name
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
# Health of durability alone: it may fail while the service goes on.
DURABILITY = "ccm_runtime.v1.Durability"
_DRAIN_POLL_S = 0.02
_SWEEP_S = 5.0
_HANDSHAKE_MS = 10_000
_MAX_REFUSALS = 16_384  # calls that are being refused at a time; gRPC itself refuses more


class Server:
    """A gRPC server over agents, inside a running event loop.

    Attributes:
        hosting: The agents and their sessions.
        releases: What changes their versions.
        port: The port it listens on, once it has started.
    """

    def __init__(
        self,
        agents: ServedAgent | Sequence[ServedAgent],
        config: ServerConfig,
        clock: Callable[[], float] | None = None,
        library: Library | None = None,
        tracing: "Tracing | None" = None,
    ) -> None:
        self._config = config
        self._library = library
        self._tracing = tracing
        table = SessionTable(
            config.max_sessions,
            config.idle_limit_s,
            clock or Presence(2 * _SWEEP_S),
            max_tenant_sessions=config.max_tenant_sessions,
        )
        self.hosting = Hosting(agents, table, config, None if tracing is None else tracing.stages)
        self.releases = Releases(self.hosting, library, lambda path: read_agent(path, config), config.max_batch)
        self.port = 0
        self._health = Health(config.max_calls)
        log = self.hosting.log
        self._tokens = None if config.token_file is None else TokenFile(config.token_file, log)
        admin = None if config.admin_token_file is None else TokenFile(config.admin_token_file, log)
        self._server = grpc.aio.server(
            interceptors=(FrontDoor(self._tokens, admin, self.hosting.metrics.refused),),
            options=(
                ("grpc.max_receive_message_length", config.max_message_bytes),
                ("grpc.max_send_message_length", config.max_message_bytes),
                ("grpc.max_concurrent_streams", config.max_streams),
                ("grpc.max_metadata_size", 16 << 10),
                ("grpc.so_reuseport", 0),
                # Who says nothing for a minute is asked whether it is there; who pings without need is sent away.
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ),
            # Beyond `max_calls` the service itself refuses, and says when to try again; probes are still answered.
            maximum_concurrent_rpcs=config.max_calls + _MAX_REFUSALS,
        )
        self._chores: list[asyncio.Task[None]] = []
        self._closing: asyncio.Task[None] | None = None
        self._hurried = False
        self._stop_metrics: Callable[[], None] | None = None
        self._page: Web | None = None

    async def start(self) -> int:
        """Accept calls; return the port.

        Raises:
            ConfigError: An address cannot be listened on, or a certificate cannot be used.
            RolloutError: What the folder of agents keeps cannot be read, as it hangs.
            DeviceLostError: The GPU failed as the beliefs of stored sessions were to be read.
        """
        try:
            return await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> int:
        self._watch_devices()
        resumption = Resumption(self.hosting, self._library, self.releases.prepared)
        resumption.rollouts()
        self.hosting.recover(resumption.recall)
        resumption.moves()
        service = Service if self._tracing is None else self._tracing.service
        add_AdaptationServicer_to_server(service(self.hosting, self._config.max_calls), self._server)
        add_AdminServicer_to_server(AdminService(self.hosting, self.releases), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, _ADMIN, _HEALTH, reflection.SERVICE_NAME), self._server)
        self.port = self._bind()
        await self._server.start()
        self._say()
        self._watch_store()
        if self._config.metrics_port is not None:
            loop = asyncio.get_running_loop()
            self.hosting.metrics.count_tasks = lambda: len(asyncio.all_tasks(loop))
            self.hosting.metrics.loop_turns = lambda: turns(loop)
            self._stop_metrics = expose(self.hosting.metrics, self._config.host, self._config.metrics_port)
        if self._config.page_port is not None:
            look = viewer(self.hosting, self._config.address(self.port), self._config.max_sessions)
            self._page = serve_page(look, self._tokens, self._config, self._config.page_port)
        self._chores.append(asyncio.create_task(self._sweep()))
        if self._config.watch_s is not None and self._library is not None:
            watch = FolderWatch(self.hosting, self.releases, self._library)
            self._chores.append(asyncio.create_task(watch.follow(self._config.watch_s)))
        return self.port

    async def drain(self) -> bool:
        """Take no new sessions and episodes, and wait for those under way; return whether all of them ended in time."""
        self.hosting.roster.draining = True
        self._say()
        self._send_elsewhere()
        deadline = time.monotonic() + self._config.drain_s
        if not self.hosting.settled():
            self.hosting.log.info("waiting for episodes to end", at_most_s=self._config.drain_s, to_end_now="Ctrl-C")
        while not self.hosting.settled() and not self._hurried and time.monotonic() < deadline:
            await asyncio.sleep(_DRAIN_POLL_S)
        return self.hosting.settled()

    def hurry(self) -> None:
        """Wait for no more episodes; sessions of a store are saved all the same."""
        self._hurried = True

    async def stop(self) -> None:
        """Stop; calls under way have a moment to be answered."""
        for chore in self._chores:
            chore.cancel()
            with suppress(asyncio.CancelledError):
                await chore
        if self._stop_metrics is not None:
            self._stop_metrics()
        if self._page is not None:
            self._page.stop()
        await self._server.stop(grace=0.2)
        if self._closing is not None:
            await self._closing
        await self.hosting.leave()
        if self._tracing is not None:
            await self._tracing.stop()

    def _bind(self) -> int:
        address = self._config.address(self._config.port)
        try:
            credentials = server_credentials(self._config, self.hosting.log)
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            why = _why_not(self._config.host.strip("[]"), self._config.port)
            raise ConfigError(
                f"cannot listen on {address}: {why}; choose another --port"
                if why
                else f"cannot listen on {address}; do --tls-cert and --tls-key belong together?"
            ) from error

    def _say(self) -> Condition:
        """Tell the health of the service, as it is now."""
        condition = self.hosting.metrics.condition()
        for name in ("", SERVICE):
            self._health.set(name, serving=condition.ready)
        return condition

    def _send_elsewhere(self) -> None:
        """Where other servers have the sessions, too: who comes now goes to them at once; streams go on for a while."""
        if self.hosting.sharing is not None and self._closing is None:
            self._closing = asyncio.create_task(self._server.stop(grace=self._config.drain_s))

    def _watch_devices(self) -> None:
        """Tell of a GPU that fails, from now on: in the log, and to whoever asks or watches how the service is."""
        loop = asyncio.get_running_loop()

        def failed(digest: str) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody asks any more
                loop.call_soon_threadsafe(self._device_failed, digest)

        self.hosting.device_failed = failed
        for version in self.hosting.roster.versions:  # in the meantime
            if version.failure:
                self._device_failed(version.digest)

    def _device_failed(self, digest: str) -> None:
        version = self.hosting.roster.find(digest)
        if version is None:  # it was dropped meanwhile
            return
        told = {"agent": version.agent.name, "version": version.name, "why": version.failure}
        if version.device == "lost":
            self.hosting.log.error("gpu failed", **told, to_go_on="start the server again")
            self._send_elsewhere()
        else:
            self.hosting.log.error("gpu failed", **told, goes_on_with=version.device)
        self._say()

    def _watch_store(self) -> None:
        """Tell the health of the store, from now on."""
        group_commit = self.hosting.group_commit
        if group_commit is None:
            return

        def changed(well: bool, why: str) -> None:  # noqa: FBT001 (the callback's own form)
            self.hosting.log.warning("store well again") if well else self.hosting.log.error("store fails", why=why)
            self._tell_store(well=well)

        group_commit.on_change = changed
        self._tell_store(well=group_commit.well)

    def _tell_store(self, *, well: bool) -> None:
        self._health.set(DURABILITY, serving=well)
        self._say()

    async def _sweep(self) -> None:
        """Remove idle sessions also while nobody calls, and see whether all is well."""
        while True:
            if self._say().live:  # nothing else tells of networks that hang
                tell_alive(os.environ)
            await asyncio.sleep(_SWEEP_S)
            self.hosting.tidy()


def run(config: ServerConfig) -> None:
    """Serve bundles until SIGTERM or SIGINT, then drain and return; a SIGINT while it drains ends that.

    Prints `listening on HOST:PORT` on standard error once it accepts calls.

    Raises:
        ConfigError: No bundle is named, the address cannot be listened on, or the processors cannot be kept awake.
        BundleError: The bundle is missing, damaged or wrong.
        DependencyMissingError: onnxruntime is not installed.
        ProviderUnavailableError: The asked-for device is not truly active.
        RolloutError: A bundle, or what its networks are opened with, hangs.
    """
    patience, library = Patience(config.load_limit_s), None
    if config.agents is not None:
        library = patience.wait(str(config.agents), "opening it", partial(Library, config.agents))
        agents = served_from(library, lambda path: read_agent(path, config), patience)
    else:
        agents = [_read_in_time(path, config, patience) for path in config.bundle]
    if not agents:
        raise ConfigError("no bundle is named; give its folder, e.g. `ccm serve BUNDLE`")
    with awake() if config.stay_awake else nullcontext():
        run_loop(_serve(agents, config, library, tracing_of(os.environ, asked=config.otel)))


def _why_not(host: str, port: int) -> str | None:
    """Return why an address cannot be listened on, which gRPC does not say; `None`: it can."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
    except OSError as error:
        return error.strerror
    return None


def read_agent(path: Path, config: ServerConfig) -> ServedAgent:
    """Check a bundle and open its networks, under the server's limits; raises as `run` does."""
    bundle = load_bundle(path, config.public_key)
    manifest = bundle.manifest
    try:
        safety = laid_over(manifest.safety, manifest.action, config.max_rate, config.fallback)
    except ConfigError as error:
        raise ConfigError(
            f"{path}: {error}; one list is for every agent, and each one's own is set by `ccm export --max-rate`"
        ) from None
    return ServedAgent(OnnxPolicy(bundle, config.device), manifest.model_copy(update={"safety": safety}), bundle.digest)


def _read_in_time(path: Path, config: ServerConfig, patience: Patience) -> ServedAgent:
    return patience.wait(str(path), "reading its bundle", partial(read_agent, path, config))


async def _serve(
    agents: Sequence[ServedAgent], config: ServerConfig, library: Library | None, tracing: "Tracing | None"
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    server = Server(agents, config, library=library, tracing=tracing)

    def interrupted() -> None:
        if stop.is_set():
            server.hurry()
        stop.set()

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupted)
    if config.shadow is not None:
        server.hosting.cast_shadow(_read_in_time(config.shadow, config, server.hosting.patience))
    await server.start()
    # What is there now stays to the end. A collection that looked at all of it held every session up for 60 ms.
    gc.freeze()
    log = server.hosting.log
    for version in server.hosting.roster.versions:
        told = {"agent": version.agent.name, "agent_id": version.agent.agent_id, "version": version.name}
        limits = str(version.manifest.safety)
        log.info("serving", **told, bundle=version.digest[:12], device=version.device, limits=limits)
    if config.action_deadline_ms is None:
        log.info("no action deadline", an_action_takes="as long as the networks do", to_set_one="--action-deadline-ms")
    elif config.action_deadline_ms >= config.action_valid_ms:
        log.warning(
            "actions may expire before the next one's deadline",
            action_deadline_ms=config.action_deadline_ms,
            action_valid_ms=config.action_valid_ms,
            a_pilot="then gives its safe action",
        )
    sys.stderr.write(f"listening on {config.address(server.port)}\n")
    sys.stderr.flush()
    await stop.wait()
    settled = await server.drain()
    await server.stop()
    log.info("stopped", drained=settled)
