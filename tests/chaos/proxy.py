"""A TCP proxy in a process of its own that cuts every connection on SIGUSR1: `python -m tests.chaos.proxy PORT TO`."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.tiers.servers import NoServer, _every, _free_port, _listens

_ROOT = Path(__file__).parents[2]


class CuttingProxy:
    """Stands before `port` of this machine; `cut` breaks what goes through it at this moment."""

    def __init__(self, port: int) -> None:
        self.port = _free_port()
        command = [sys.executable, "-m", "tests.chaos.proxy", str(self.port), str(port)]
        self._process = subprocess.Popen(command, cwd=_ROOT, start_new_session=True)
        if not any(_listens(self.port) for _ in _every(0.05, 20)):
            self.close()
            raise NoServer("the proxy does not listen")

    def cut(self) -> None:
        """Reset every connection; new ones are let through."""
        self._process.send_signal(signal.SIGUSR1)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


async def _serve(port: int, to: int) -> None:
    open_ones: set[asyncio.StreamWriter] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        with suppress(OSError):
            writer.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", to)
        except OSError:
            writer.close()
            return
        both = {writer, back}
        open_ones.update(both)
        await asyncio.gather(pump(reader, back), pump(there, writer))
        open_ones.difference_update(both)

    def cut() -> None:
        for writer in open_ones:
            writer.transport.abort()

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, cut)
    server = await asyncio.start_server(join, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
