"""The cases that a client in Python plays.

    python play.py                     the names of all cases
    python play.py URL PREFIX CASE...  plays them side by side against a server

URL is `tcp://HOST:PORT` or `tls://HOST:PORT`, and PREFIX makes uids one's own. One line tells how a
case went, `PASS name` or `FAIL name: why`.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

from client import Client


def handshake(client, _uid):
    sys_part = {"dict": {}, "heartbeat": 1, "serializer": "json"}
    same(client.handshake, {"code": 200, "sys": sys_part})


def request(client, _uid):
    for msg in ["good", "", 'ação, 你好, \U0001f3ae, "quoted", tab\t, line\n']:
        same(client.request(route("echo"), {"msg": msg}), {"msg": msg})
        same(client.request("testsvc.echo", {"msg": msg}), {"msg": msg})


def many_requests(client, _uid):
    texts = [{"msg": f"request {n}"} for n in range(300)]
    numbers = [client.ask(route("echo"), text) for text in texts]
    same([client.reply(number) for number in numbers], texts)


def large_text(client, _uid):
    """It would shrink, but this client could not inflate it."""
    text = {"msg": "again and " * 5000}
    same(client.request(route("echo"), text), text)


def error(client, _uid):
    wanted = {"code": "PIT-433", "msg": "test error", "metadata": {"some": "meta"}}
    same(client.request(route("fail")), wanted)
    msg = "pitaya/handler: connector.testsvc.nonexistenthandler not found"
    same(client.request(route("nonexistenthandler")), {"code": "PIT-404", "msg": msg})


def notify(client, _uid):
    for _ in range(3):
        client.notify(route("wave"))
    # A server may run the calls of a session side by side, so the third may take a while.
    counts = (client.request(route("waves"))["n"] for _ in range(1000))
    assert 3 in counts, "not all waves were counted"
    same(client.replies, {})


def push(client, _uid):
    same(client.request(route("pushme"), {"n": 100}), {"n": 100})
    same(client.pushes, [("onNumber", {"n": n}) for n in range(1, 101)])


def bind(client, uid):
    same(client.request(route("bind"), {"uid": uid}), {"uid": uid})
    same(client.request(route("whoami")), {"uid": uid})


def kick(client, _uid):
    client.ask(route("kickme"), {})
    try:
        while True:
            client.handle_packet()
    except EOFError:
        same(client.kicked, True)


def heartbeat(client, _uid):
    """Six intervals of silence but for beats, each in answer to one."""
    end = time.monotonic() + 6.5
    while time.monotonic() < end:
        client.handle_packet()
    assert 5 <= client.beats <= 8, f"{client.beats} beats"
    same(client.request(route("echo"), {"msg": "here"}), {"msg": "here"})


def dictionary(client, _uid):
    same(client.handshake["sys"]["dict"], DICTIONARY)
    same(client.request(route("echo"), {"msg": "coded"}), {"msg": "coded"})
    same(client.request(route("pushme"), {"n": 1}), {"n": 1})
    same(client.pushes, [("onNumber", {"n": 1})])


def same(got, wanted):
    assert got == wanted, f"expected {wanted}, got {got}"


def route(method):
    return f"connector.testsvc.{method}"


def play(name, url, prefix):
    """Tells how the case went."""
    try:
        with Client(url) as client:
            CASES[name](client, f"{prefix} {name}")
    except Exception as why:  # whatever it is, the case has failed
        return f"FAIL {name}: {str(why)[:500] or type(why).__name__}"
    return f"PASS {name}"


def main(arguments):
    if not arguments:
        return list(CASES)
    url, prefix, *names = arguments
    with ThreadPoolExecutor(max_workers=len(names)) as pool:
        return list(pool.map(lambda name: play(name, url, prefix), names))


DICTIONARY = {
    "connector.testsvc.echo": 1,
    "connector.testsvc.pushme": 2,
    "connector.testsvc.raw": 515,
    "connector.testsvc.wave": 4,
    "onNumber": 5,
}

CASES = {
    case.__name__.replace("_", "-"): case
    for case in [
        handshake, request, many_requests, large_text, error, notify, push, bind, kick, heartbeat,
        dictionary,
    ]
}

if __name__ == "__main__":
    print("\n".join(main(sys.argv[1:])))
