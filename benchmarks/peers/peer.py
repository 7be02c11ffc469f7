"""One peer, in its own environment: serve the policy, write an example request, or read an answer.

python peer.py websocket serve BUNDLE          says `listening on HOST:PORT`
python peer.py websocket request BUNDLE        JSON: protocol, path, message (hex), action expected
python peer.py websocket action HEX            JSON: the action in an answer
"""

import importlib
import json
import os
import sys

from bare_policy import BarePolicy


def main() -> None:
    """Do what is asked."""
    name, verb, argument = sys.argv[1:]
    peer = importlib.import_module(f"{name}_server")
    if verb == "action":
        print(json.dumps(peer.action(bytes.fromhex(argument))))
        return
    policy = BarePolicy(argument)
    if verb == "request":
        expected = policy.act(policy.example()[None])[0].tolist()
        told = {"protocol": peer.PROTOCOL, "path": peer.PATH, "message": peer.request(policy).hex(), "action": expected}
        print(json.dumps(told))
        return
    os.environ["PEER_BUNDLE"] = argument  # for workers that it starts
    peer.serve_policy(policy)


if __name__ == "__main__":
    main()
