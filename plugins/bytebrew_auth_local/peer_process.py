"""Proves that a loopback connection comes from a process of the engine's own user that is not a proxy.

Linux only. A process is not a proxy if none of its descriptors can bring it input from elsewhere: no other socket, no
pipe from another process, no device except the terminal of the shell that started it. A program of that user that types
others' requests into a shell's terminal is not detected.
"""

import os
import select
import socket
import stat
import struct
import sys
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

Address = tuple[str, int]
"""An IP address and a port."""

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST = 4, 20, 1
_TCP, _LISTEN, _ALL, _ANY = 6, 10, 0xFFFFFFFF, b"\xff" * 8
_UDIAG_SHOW_PEER, _UNIX_DIAG_PEER = 4, 2
_HEAD = struct.Struct("=IHHII")
_HARMLESS = {
    f"anon_inode:{name}" for name in ("[eventfd]", "[eventpoll]", "[timerfd]", "[signalfd]", "inotify", "[pidfd]")
}
"""Descriptors that bring no input from other processes."""
_NULL_DEVICES = {os.makedev(1, minor) for minor in (3, 5, 7, 8, 9)}
"""The devices null, zero, full, random and urandom."""
_TTY = os.makedev(5, 0)
"""/dev/tty, the controlling terminal."""
_LIKE_A_PROXY = "its process has other connections or reads from another process, as proxies do"
_OWN_TERMINAL = "its terminal was opened for it alone, as proxies do; start it from a shell"


class NotProven(Exception):
    """The owner of the connection cannot be proven; the message says why."""


def check_owner(client: Address, server: Address, folder: Path) -> None:
    """Raises NotProven unless the client's process belongs to this user, is not a proxy, and sees the folder.

    `folder` is a resolved path that processes in containers and sandboxes do not see. Blocking: it reads /proc.
    """
    uid, inode = _connection(client, server)
    if uid != os.geteuid():
        raise NotProven("its process belongs to another user")
    name = f"socket:[{inode}]"
    holders = {pid: held for pid in _own_processes() if name in (held := _held(pid)).values()}
    if not holders:
        raise NotProven("its process cannot be looked at")
    try:
        for pid, held in holders.items():
            _check_process(pid, folder)
            _check_held(pid, held, name)
    except OSError as error:
        raise NotProven("its process cannot be looked at") from error


def _connection(client: Address, server: Address) -> tuple[int, int]:
    """User id and inode of the client's socket, looked up by its addresses (sock_diag(7))."""
    mine, theirs = _ip(client[0]), _ip(server[0])
    family = socket.AF_INET if isinstance(mine, IPv4Address) else socket.AF_INET6
    ends = struct.pack("!HH", client[1], server[1]) + mine.packed.ljust(16, b"\0") + theirs.packed.ljust(16, b"\0")
    answer = _query_kernel(struct.pack("=BBBBI", family, _TCP, 0, 0, _ALL) + ends + struct.pack("=I", 0) + _ANY)
    known, state = answer[:2]
    size = 4 if known == socket.AF_INET else 16
    found = [_ip(answer[start : start + size]) for start in (8, 24)]
    uid, inode = struct.unpack_from("=II", answer, 64)
    if state == _LISTEN or not inode or answer[4:8] != ends[:4] or found != [mine, theirs]:
        raise NotProven("the system does not know the connection")
    return uid, inode


def _ip(address: str | bytes) -> IPv4Address | IPv6Address:
    one = ip_address(address.partition("%")[0] if isinstance(address, str) else address)
    return (one.ipv4_mapped or one) if isinstance(one, IPv6Address) else one


def _peer(inode: int) -> int:
    """The inode of the peer of a Unix socket, 0 if there is none (sock_diag(7))."""
    rest = struct.pack("=III", _ALL, inode, _UDIAG_SHOW_PEER) + _ANY
    answer = _query_kernel(struct.pack("=BBH", socket.AF_UNIX, 0, 0) + rest)
    at = 16
    while at + 4 <= len(answer):
        length, kind = struct.unpack_from("=HH", answer, at)
        if kind == _UNIX_DIAG_PEER:
            return int.from_bytes(answer[at + 4 : at + 8], sys.byteorder)
        at += max(4, (length + 3) & ~3)
    return 0


def _query_kernel(request: bytes) -> bytes:
    """The kernel's answer to a query about one socket (sock_diag(7))."""
    if not hasattr(socket, "AF_NETLINK"):
        raise NotProven("this system does not show whose connection it is")
    head = _HEAD.pack(_HEAD.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
            netlink.settimeout(1)
            netlink.send(head + request)
            answer = netlink.recv(65536)
    except OSError as error:
        raise NotProven("this system does not show whose connection it is") from error
    length, kind, *_ = _HEAD.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY:
        raise NotProven(_LIKE_A_PROXY if request[0] == socket.AF_UNIX else "the system does not know the connection")
    return answer[_HEAD.size : length]


def _own_processes() -> list[int]:
    found = []
    for one in Path("/proc").iterdir():
        with suppress(OSError):
            if one.name.isdecimal() and one.stat().st_uid == os.geteuid():
                found.append(int(one.name))
    return found


def _held(pid: int) -> dict[Path, str]:
    """The target of each descriptor of a process; empty without permission."""
    found = {}
    with suppress(OSError):
        for one in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                found[one] = str(one.readlink())
    return found


def _check_process(pid: int, folder: Path) -> None:
    """Checks that the process has this user's ids only, was not started by the engine, and sees the folder."""
    if {int(one) for one in _status(pid)["Uid"].split()} != {os.geteuid()}:
        raise NotProven("its process belongs to another user too")
    above = pid
    while above > 0:
        if above == os.getpid():
            raise NotProven("its process is the engine's own")
        try:
            above = int(_status(above)["PPid"])
        except OSError:  # another user's process
            break
    try:
        same = Path(f"/proc/{pid}/root{folder}").samefile(folder)
    except FileNotFoundError:
        same = False
    if not same:
        raise NotProven("its process is shut off from the engine's data folder")


def _status(pid: int) -> Mapping[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value for name, _, value in (line.partition(":") for line in lines)}


def _check_held(pid: int, held: Mapping[Path, str], connection: str) -> None:
    """Checks that no descriptor except the connection brings the process input from elsewhere."""
    for file, name in held.items():
        if name == connection or name in _HARMLESS:
            continue
        if name.startswith("anon_inode:"):
            raise NotProven(_LIKE_A_PROXY)
        status = file.stat()
        kind = stat.S_IFMT(status.st_mode)
        if kind in (stat.S_IFREG, stat.S_IFDIR):
            continue
        if kind == stat.S_IFCHR and status.st_rdev in _NULL_DEVICES:
            continue
        if kind == stat.S_IFCHR and status.st_rdev in (_TTY, _terminal(pid)):
            if os.getsid(pid) == pid:
                raise NotProven(_OWN_TERMINAL)
            continue
        if kind == stat.S_IFSOCK and f"socket:[{_peer(status.st_ino)}]" in held.values():
            continue
        if kind == stat.S_IFIFO and name.startswith("pipe:") and _has_no_input(pid, file, name, held):
            continue
        raise NotProven(_LIKE_A_PROXY)


def _has_no_input(pid: int, file: Path, name: str, held: Mapping[Path, str]) -> bool:
    """Whether a pipe brings no input: it is write-only, both ends are this process's, or it is closed and empty."""
    if _access(pid, file) == os.O_WRONLY:
        return True
    if any(other == name and _access(pid, one) == os.O_WRONLY for one, other in held.items()):
        return True
    end = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    try:
        poll = select.poll()
        poll.register(end, select.POLLIN)
        return poll.poll(0) == [(end, select.POLLHUP)]
    finally:
        os.close(end)


def _terminal(pid: int) -> int:
    """The process's controlling terminal."""
    number = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[4])
    return os.makedev(number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00)


def _access(pid: int, file: Path) -> int:
    lines = Path(f"/proc/{pid}/fdinfo/{file.name}").read_text().splitlines()
    flags = next(line.partition(":")[2] for line in lines if line.startswith("flags:"))
    return int(flags, 8) & os.O_ACCMODE
