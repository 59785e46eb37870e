"""Autobahn's cases, as kosoku plays them, against one who says back what it is told.

    python autobahn.py CASES                        a client over ws; the first line tells it where
    python autobahn.py CASES HOST:PORT              a server over ws
    python autobahn.py CASES HOST:PORT CERTIFICATE  a server over wss, through a relay, because
                                                    kosoku speaks no TLS

CASES is a number such as 1.2.3, or a pattern such as `1.*` or `*`. One line tells how a case went:
its number, the verdict about what was said, the verdict about how it was closed.
Permessage-deflate, cases 12 and 13, is left out: Pitaya negotiates no extension.
"""

import asyncio
import os
import ssl
import sys

from kosoku import FailureError, run_fuzzingclient, run_fuzzingserver


async def play(cases, address):
    try:
        return await run_fuzzingclient(
            f"ws://{address}", [cases], WITHOUT, concurrency=AT_ONCE_MAX
        )
    except FailureError as failure:
        return failure.results


async def relayed(cases, address, certificate):
    """What `play` gives, with TLS between here and the server."""
    host, port = address.rsplit(":", 1)
    trust = ssl.create_default_context(cafile=certificate)

    async def relay(reader, writer):
        server_reader, server_writer = await asyncio.open_connection(host, port, ssl=trust)
        await asyncio.gather(pump(reader, server_writer), pump(server_reader, writer))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    async with server:
        here, door = server.sockets[0].getsockname()
        return await play(cases, f"{here}:{door}")


async def pump(reader, writer):
    """The end of one direction is the end of it all, as it is with TLS."""
    try:
        while chunk := await reader.read(CHUNK_BYTES_MAX):
            writer.write(chunk)
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        pass  # it has ended, whoever ended it
    writer.close()


async def serve(cases):
    try:
        async with run_fuzzingserver([cases], WITHOUT, host="127.0.0.1", port=0) as server:
            print(f"{server.address}:{server.port}", flush=True)
            return await server.get_result()
    except FailureError as failure:
        return failure.results


async def main(*arguments):
    played = [serve, play, relayed][len(arguments) - 1](*arguments)
    for result in await asyncio.wait_for(played, ALL_SECONDS_MAX):
        print(result.case_id, result.behavior.value, result.behavior_close.value)


ALL_SECONDS_MAX = 240
AT_ONCE_MAX = 4
WITHOUT = ["12.*", "13.*"]
CHUNK_BYTES_MAX = 64 * 1024

if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
    sys.stdout.flush()
    # A thread of kosoku may still be waking the loop. Where the interpreter ends meanwhile, Python
    # ends that thread by unwinding it, which Rust forbids: the process would abort, all said.
    os._exit(0)
