"""The comparison with other servers: its clients speak what they should, and its table says what was found."""

import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ccm_runtime.errors import ServerError

ROOT = Path(__file__).resolve().parents[3]
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "peers")]

import against_peers  # noqa: E402
import v2_request  # noqa: E402
from peers.wires import Http  # noqa: E402


class Echo(BaseHTTPRequestHandler):
    """Answers what it was sent; 500 for an empty message."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        message = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200 if message else 500)
        self.send_header("Content-Length", str(len(message)))
        self.end_headers()
        self.wfile.write(message)

    def log_message(self, *_):
        pass


@pytest.fixture
def echo():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_one_connection_carries_many_posts(echo):
    line = Http(echo)
    said = [b"one", b"x" * 100_000, b"three"]
    assert [line.exchange("/any", message) for message in said] == said
    line.close()


def test_a_refusal_ends_the_benchmark(echo):
    line = Http(echo)
    with pytest.raises(ServerError, match="500"):
        line.exchange("/any", b"")
    line.close()


@pytest.mark.parametrize("raw", [True, False])
def test_an_action_is_read_from_raw_bytes_and_from_numbers(raw):
    action = [0.5, -1.25]
    packed = struct.pack("<2f", *action)
    output = v2_request.field(1, b"action") + v2_request.field(2, b"FP32")
    contents = b"" if raw else v2_request.field(5, v2_request.field(6, packed))
    answer = v2_request.field(1, b"policy") + v2_request.field(5, output + contents)
    answer += v2_request.field(6, packed) if raw else b""
    assert v2_request.action(answer) == action


def test_a_request_holds_the_model_the_shape_and_the_numbers():
    fields = v2_request.parse(v2_request.infer("policy", [0.5, 2.0, 3.0]))
    assert fields[1] == b"policy"
    assert v2_request.parse(fields[5])[3] == bytes([1, 3])
    assert struct.unpack("<3f", fields[7]) == (0.5, 2.0, 3.0)


def test_the_table_compares_within_a_round():
    def turn(scale, peer):
        figures = {"p50_us": 100.0 * scale, "p99_us": 0.0, "per_s": 1000.0 / scale}
        theirs = {key: value * peer for key, value in figures.items()}
        return {"ccm": {"1": figures, "64": figures}, "other": {"1": theirs, "64": theirs}}

    record = {
        "rounds": [turn(1.0, 2.0), turn(10.0, 4.0), turn(3.0, 3.0)],
        "made": {"command": "c", "date": "d", "machine": "m"},
    }
    lines = against_peers.table(record).splitlines()
    assert lines[2] == "| ccm | 300 us | 1.00 [1.00, 1.00] | 333 | 1.00 [1.00, 1.00] |"
    assert lines[3].split("|")[3].strip() == lines[3].split("|")[5].strip() == "3.00 [2.00, 4.00]"
