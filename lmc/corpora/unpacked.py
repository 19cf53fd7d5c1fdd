"""The content of a .xz file, all of it or an error.

>>> _ = Path("packed.txt.xz").write_bytes(lzma.compress(b"some ") + lzma.compress(b"words"))
>>> io.BufferedReader(Unpacked(Path("packed.txt.xz"))).read()
b'some words'

Such a file may hold several streams. Where one is damaged at its head, Python's own reader takes it for the end.
"""

import io
import lzma
from pathlib import Path
from typing import Any

PIECE = 2**16  # bytes of the file that are read together


class Unpacked(io.RawIOBase):
    """A stream of bytes, to be read through `io.BufferedReader`. Raises OSError, EOFError, lzma.LZMAError."""

    def __init__(self, path: Path) -> None:
        self._file, self._stream = path.open("rb"), lzma.LZMADecompressor()

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        data = b""
        while not data:
            if self._stream.eof:
                behind = self._stream.unused_data.lstrip(b"\0")  # streams may stand apart
                while not behind:
                    if not (piece := self._file.read(PIECE)):
                        return 0
                    behind = piece.lstrip(b"\0")
                self._stream = lzma.LZMADecompressor()
                data = self._stream.decompress(behind, len(buffer))
            else:
                piece = self._file.read(PIECE) if self._stream.needs_input else b""
                if self._stream.needs_input and not piece:
                    raise EOFError("it ends before its end is marked")
                data = self._stream.decompress(piece, len(buffer))
        buffer[: len(data)] = data
        return len(data)
