"""
A TCP proxy that misbehaves on order: ``python -m faults.proxy LISTEN_PORT TARGET_PORT``.

Orders come as lines of JSON on its input. It forwards byte by byte what it gets, and knows
of the protocol only that a COMMIT, or a call that commits, has passed by.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import subprocess
import sys
from typing import IO

from servers import die_with_parent, free_port

_COMMITS = (b"COMMIT", b"advance_workflows", b"record_step")
_RESET = struct.pack("ii", 1, 0)
_TIME_TO_READ = 1.0
"""Seconds that the server has for a request that comes late, before its end is reset too."""


class Link:
    """One connection through the proxy: two pumps, which may be held up or cut."""

    def __init__(self, proxy: Relay, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._ends = (near, far)
        self._answer_is_lost = False

    async def pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        proxy = self._proxy
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if proxy.delay:
                    await asyncio.sleep(proxy.delay * random.random())
                if not is_answer and random.random() < proxy.share_to_overtake:
                    _reset(self._ends[0])
                    await asyncio.sleep(proxy.lateness * random.random())
                    writer.write(data)
                    await asyncio.sleep(_TIME_TO_READ)
                    break
                if not is_answer and proxy.answers_to_lose and any(c in data for c in _COMMITS):
                    proxy.answers_to_lose -= 1
                    self._answer_is_lost = True
                if is_answer and self._answer_is_lost:
                    break
                await proxy.is_open.wait()
                if is_answer:
                    await proxy.is_answering.wait()
                writer.write(data)
                await writer.drain()
            await proxy.is_open.wait()  # a black hole does not tell of the end either
            await proxy.is_answering.wait()
        self.cut()

    def cut(self) -> None:
        """Reset both connections: neither end may think that the other said goodbye."""
        for writer in self._ends:
            _reset(writer)


def _reset(end: asyncio.StreamWriter) -> None:
    connection = end.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    end.transport.abort()


class Relay:
    """The proxy: its links, and how they behave just now."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._links: set[Link] = set()
        self.delay = 0.0
        self.lateness = 0.0
        self.share_to_overtake = 0.0
        self.answers_to_lose = 0
        self.is_open = asyncio.Event()
        self.is_answering = asyncio.Event()
        self.forward()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.is_open.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        link = Link(self, writer, far_writer)
        self._links.add(link)
        try:
            await asyncio.gather(
                link.pump(reader, far_writer, is_answer=False),
                link.pump(far_reader, writer, is_answer=True),
            )
        finally:
            self._links.discard(link)

    # orders

    def forward(self) -> None:
        """Behave."""
        self.delay = 0.0
        self.share_to_overtake = 0.0
        self.answers_to_lose = 0
        self.is_open.set()
        self.is_answering.set()

    def slow_down(self, seconds: float) -> None:
        """Hold up everything by a random time up to so many seconds."""
        self.delay = seconds

    def overtake(self, share: float, lateness: float) -> None:
        """Reset the worker's end at a share of its requests, and hand these on up to so late."""
        self.share_to_overtake = share
        self.lateness = lateness

    def lose_answers(self, count: int) -> None:
        """Let the next commits reach the server and cut the link instead of answering."""
        self.answers_to_lose = count

    def swallow(self) -> None:
        """Be a black hole: take what comes and hand on nothing, in neither direction."""
        self.is_open.clear()

    def swallow_answers(self) -> None:
        """Hand on what is asked, and none of the answers."""
        self.is_answering.clear()

    def cut(self, share: float) -> None:
        """Reset a random share of the links."""
        for link in list(self._links):
            if random.random() < share:
                link.cut()

    async def obey(self) -> None:
        """Follow the orders until the input ends."""
        orders = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
        )
        while line := await orders.readline():
            name, *arguments = json.loads(line)
            getattr(self, name)(*arguments)
            print("done", flush=True)


async def serve(listen_port: int, target_port: int) -> None:
    relay = Relay(target_port)
    async with await asyncio.start_server(relay.accept, "127.0.0.1", listen_port):
        print("ready", flush=True)
        await relay.obey()


class Proxy:
    """The proxy as a child process, and how to give it orders."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.proxy", str(self.port), str(target_port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        self._expect("ready")

    def _expect(self, answer: str) -> None:
        output = self._process.stdout
        assert output is not None
        got = output.readline().decode().strip()
        assert got == answer, f"the proxy says {got!r}, not {answer!r}"

    def order(self, name: str, *arguments: float) -> None:
        """Give an order: the name of a method of Relay, and its arguments."""
        pipe: IO[bytes] | None = self._process.stdin
        assert pipe is not None
        pipe.write(json.dumps([name, *arguments]).encode() + b"\n")
        pipe.flush()
        self._expect("done")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
