"""Writes the first inputs of the corpus: one of each frame and operation, as the fuzz targets read them."""
import pathlib
import struct

here = pathlib.Path(__file__).parent / "corpus"


def text(value: bytes) -> bytes:
    return struct.pack("<I", len(value)) + value


def frame(kind: int, stream: int, payload: bytes = b"", channel: int = 0) -> bytes:
    return struct.pack("<IBBHI", len(payload), kind, channel, 0, stream) + payload


def strings(*values: bytes) -> bytes:
    return struct.pack("<I", len(values)) + b"".join(text(value) for value in values)


exec_ = struct.pack("<IHH", 2, 24, 80) + text(b"") + text(b"/") + strings(b"sh", b"-c", b"true") + strings(b"A=b")
exec_tty = struct.pack("<IHH", 3, 24, 80) + text(b"root") + text(b"") + strings() + strings()
configure = (
    text(b"box") + struct.pack("<I", 1) + text(b"/etc/hosts") + struct.pack("<III", 0o644, 0, 0) + text(b"hosts")
    + struct.pack("<Q", 1) + text(b"0123456789abcdef") + text(b"10.0.2.15/24") + text(b"10.0.2.2") + struct.pack("<I", 0)
    + text(b"52:54:00:12:34:56") + text(b"0f0e0d0c-0b0a-4908-8706-050403020100") + text(b"00112233445546778899aabbccddeeff")
    + struct.pack("<Q", 1 << 33)
)
mount = text(b"/dev/vdb") + text(b"squashfs") + text(b"/root/repo") + struct.pack("<I", 0) + text(b"repo")
connect = text(b"") + struct.pack("<H", 8080)
connect_to = text(b"fe80::1") + struct.pack("<H", 80)
unpack = text(b"/root/repo") + text(b"/var/lib/banger/repo/upper") + struct.pack("<I", 3)
pack = text(b"/root") + struct.pack("<II", 1, 3) + text(b"") + text(b"repo/a") + text(b".gitconfig")


def short(value: bytes) -> bytes:
    return struct.pack("<H", len(value)) + value


def segment(offset: int, value: bytes) -> bytes:
    return struct.pack("<QI", offset, len(value)) + value


archive = (
    b"\5" + short(b"a/b") + b"\1"
    + b"\6" + short(b".git/HEAD") + b"\0" + short(b"ref: refs/heads/main\n")
    + b"\6" + short(b"gone") + b"\1" + short(b"")
    + b"\4" + short(b"old/tree") + b"\1"
    + b"\2" + short(b"a/b") + struct.pack("<IqQ", 0o755, 1700000000000000000, 100) + segment(0, b"head") + segment(90, b"tail") + segment(100, b"")
    + b"\3" + short(b"a/link") + short(b"../target") + struct.pack("<q", -1)
    + b"\1" + short(b"a") + struct.pack("<Iq", 0o2755, 0)
    + b"\0"
)
data = frame(3, 1, b"x" * 1000)

frames = {
    "exec": frame(2, 1, b"\1" + exec_) + data + frame(4, 1) + frame(6, 1, struct.pack("<I", 2)) + frame(8, 1),
    "tty": frame(2, 1, b"\1" + exec_tty) + frame(7, 1, struct.pack("<HH", 3, 4)) + data + frame(4, 1),
    "full": frame(2, 1, b"\1" + exec_) + frame(3, 1, b"y" * 65000),
    "stream": frame(2, 1, b"\1" + exec_) + frame(3, 1, b"z" * 65536) * 4 + frame(5, 1, struct.pack("<I", 70000), 1) + frame(4, 1),
    "windows": frame(2, 1, b"\1" + exec_) + b"".join(data + frame(5, 1, struct.pack("<I", n), 1 + n % 2) for n in range(9)),
    "ports": frame(2, 1, b"\4") + frame(5, 1, struct.pack("<I", 100000), 1) + frame(2, 2, b"\4"),
    "health": frame(2, 1, b"\3") + frame(2, 9, b"\7"),
    "machine": frame(2, 1, b"\2" + configure) + frame(2, 2, b"\x09" + mount) + frame(2, 3, b"\5" + bytes(8)),
    "connect": frame(2, 1, b"\x0a" + connect) + data + frame(2, 2, b"\x0a" + connect_to) + frame(3, 2, b"z" * 65536) * 3 + frame(4, 1) + frame(4, 2),
    "connects": b"".join(frame(2, n, b"\x0a" + connect) + frame(3, n, b"w" * 9000) + frame(4 + 4 * (n % 2), n) for n in range(1, 12)),
    "unpack": frame(2, 1, b"\x0c" + unpack) + frame(3, 1, archive) + frame(4, 1) + frame(2, 2, b"\x0c" + unpack) + frame(3, 2, archive[:50]) + frame(8, 2),
    "pack": frame(2, 1, b"\x0d" + pack) + frame(5, 1, struct.pack("<I", 70000), 1) + frame(2, 2, b"\x0d" + pack) + frame(8, 1),
    "violation": frame(99, 1) + bytes.fromhex("B4424E47520D0A1A0100000000000000") + bytes(16) + frame(2, 1, b"\3"),
}
for name, content in frames.items():
    for mode in (0xF0, 0xF1, 0xF8, 0x69, 0xFC):
        (here / "frames" / f"seed-{name}-{mode:02x}").write_bytes(bytes([mode]) + content)

decoders = {
    "exec": b"\0" + exec_,
    "configure": b"\1" + configure,
    "mount": b"\2" + mount,
    "connect": b"\xff" + connect,
    "connect-to": b"\xff" + connect_to,
    "unpack": b"\xfe" + unpack,
    "pack": b"\xfe" + pack,
    "archive": b"\xfd" + archive,
    "ext4": b"\3" + bytes(0x38) + b"\x53\xef" + bytes(1000),
    "stream": frame(2, 1, b"\1" + exec_) + frame(3, 1, b"z" * 65536) * 4 + frame(5, 1, struct.pack("<I", 70000), 1) + frame(4, 1),
    "windows": frame(2, 1, b"\1" + exec_) + b"".join(data + frame(5, 1, struct.pack("<I", n), 1 + n % 2) for n in range(9)),
    "ports": b"\4h\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 12345 1\n",
    "passwd": b"\x09dev:x:1000:1000:,,,:/home/dev:/bin/sh\nsudo:x:27:dev,other\n",
    "user": b"\x0e........1000:g",
    "cmdline": b"\x13quiet banger.root=/dev/vda banger.rootfstype=ext4\n",
    "address": b"\x1810.0.2.15/24",
    "meminfo": b"\x18MemTotal: 1 kB\nMemAvailable: 2 kB\n",
}
for name, content in decoders.items():
    (here / "decoders" / f"seed-{name}").write_bytes(content)
