"""Tell systemd that this server lives, where its unit asks for it (`WatchdogSec=`): else it is started again."""

import socket
from collections.abc import Mapping
from contextlib import suppress

VARIABLE = "NOTIFY_SOCKET"
ALIVE = b"WATCHDOG=1"


def tell_alive(environ: Mapping[str, str]) -> None:
    """Send one datagram to the socket that the environment names, if it names one; never wait, and never fail."""
    address = environ.get(VARIABLE, "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        sender.sendto(ALIVE, f"\0{address[1:]}" if address.startswith("@") else address)
