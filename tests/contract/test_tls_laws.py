"""Laws of TLS: renewed without a restart, mutual where asked for, and nobody in with the wrong authority."""

import grpc
import pytest
from certificates import Authority, make, needs_openssl

from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import ConfigError
from ccm_runtime.testing import ScriptedPolicy, serving
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationStub

LIMIT_S = 20.0
pytestmark = needs_openssl


def config(key, cert, **settings):
    return ServerConfig(port=0, log_level="info", tls_key=key, tls_cert=cert, **settings)


async def family(address, authority, key=None, cert=None):
    """Return what a new connection is told, trusting `authority`."""
    credentials = grpc.ssl_channel_credentials(
        authority.read_bytes(), None if key is None else key.read_bytes(), None if cert is None else cert.read_bytes()
    )
    async with grpc.aio.secure_channel(address, credentials) as channel:
        described = await AdaptationStub(channel).DescribeAgent(pb.DescribeAgentRequest(), timeout=LIMIT_S)
    return described.agent.family


async def is_refused(*connection):
    with pytest.raises(grpc.RpcError) as error:
        await family(*connection)
    return error.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_renewed_certificate_is_used_without_a_restart(tmp_path, capfd):
    key, cert = make(tmp_path, "old")
    new_key, new_cert = make(tmp_path, "new")
    old_authority = tmp_path / "old-authority.pem"
    old_authority.write_bytes(cert.read_bytes())
    async with serving(ScriptedPolicy(), config(key, cert)) as address:
        assert "scripted" == await family(address, old_authority)
        cert.write_text("half a certif")
        assert "scripted" == await family(address, old_authority)
        key.write_bytes(new_key.read_bytes())
        cert.write_bytes(new_cert.read_bytes())
        assert "scripted" == await family(address, new_cert)
        assert await is_refused(address, old_authority)
    log = capfd.readouterr().err
    assert "certificate not renewed" in log
    assert "certificate renewed" in log
    assert "PRIVATE KEY" not in log.replace("-----BEGIN", "")


async def test_a_client_must_trust_the_servers_authority(tmp_path):
    key, cert = make(tmp_path, "server")
    _, other = make(tmp_path, "other")
    async with serving(ScriptedPolicy(), config(key, cert)) as address:
        assert await is_refused(address, other)


async def test_mutual_tls_serves_only_clients_of_its_authority(tmp_path):
    key, cert = make(tmp_path, "server")
    client_key, client_cert = make(tmp_path, "client")
    wrong_key, wrong_cert = make(tmp_path, "wrong")
    async with serving(ScriptedPolicy(), config(key, cert, tls_client_ca=client_cert)) as address:
        assert "scripted" == await family(address, cert, client_key, client_cert)
        assert await is_refused(address, cert)
        assert await is_refused(address, cert, wrong_key, wrong_cert)


async def test_a_certificate_that_has_run_out_opens_nothing(tmp_path):
    authority = Authority(tmp_path)
    server, client = authority.make("server"), authority.make("client")
    old_server, old_client = authority.make("old-server", expired=True), authority.make("old-client", expired=True)
    async with serving(ScriptedPolicy(), config(*server, tls_client_ca=authority.cert)) as address:
        assert "scripted" == await family(address, authority.cert, *client)
        assert await is_refused(address, authority.cert, *old_client)
    async with serving(ScriptedPolicy(), config(*old_server)) as address:
        assert await is_refused(address, authority.cert)


def test_client_certificates_need_a_servers():
    with pytest.raises(ConfigError, match="tls_client_ca needs tls_cert"):
        ServerConfig.resolve({"tls_client_ca": "ca.pem"}, {})
