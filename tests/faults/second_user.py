"""Another OS user of the machine, who tries all that can be found of a node.

Reads what to try as JSON on stdin, becomes that user, and prints what worked. It is told the name
of every file, socket, port and process, which a real one would have to find. Standard library only:
nothing has to be read after the privileges are gone.
"""
# ruff: noqa: PTH101, PTH104, PTH108, PTH208, S103 - calls of the system, each as it is

import contextlib
import errno
import http.client
import json
import os
import signal
import socket
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

TIMEOUT_S = 5.0
GUESS = "guess" * 8
HTTP_PATHS = (
    ("GET", "/"),
    ("GET", "/metrics"),
    ("GET", "/internal/status"),
    ("POST", "/internal/login"),
    ("GET", "/v1/models"),
    ("GET", "/v1/aliases"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/get_or_create_runtime_env"),
)
GRPC_CALLS = (
    "CoreWorkerService/GetCoreWorkerStats",
    "NodeManagerService/GetNodeStats",
    "ObjectManagerService/Push",
    "ObjectManagerService/FreeObjects",
    "NodeInfoGcsService/GetClusterId",
    "NodeInfoGcsService/GetAllNodeInfo",
    "InternalKVGcsService/InternalKVKeys",
    "ActorInfoGcsService/GetAllActorInfo",
)
GRPC_ACTS = (
    "CoreWorkerService/PushTask",
    "NodeManagerService/RequestWorkerLease",
    "JobInfoGcsService/AddJob",
)
"""Not asked for by who shows the right token: they would be carried out."""
REFUSED = b"InvalidAuthToken"
LOGINS = ("postgres", "mana_sync", "mana_agent", "mana_supervisor", "mana_gateway", "mana_keys")


def main() -> None:
    """Try it all."""
    told: dict[str, Any] = json.load(sys.stdin)
    os.chdir("/")
    "".encode("idna")  # what names of hosts go through is loaded while we can
    if told["uid"] != 0:
        os.setgroups([])
        os.setgid(told["uid"])
        os.setuid(told["uid"])
    worked: list[str] = []
    for path in told["paths"]:
        for what, attempt in attempts(path, is_gentle=told["uid"] == 0):
            with contextlib.suppress(OSError):
                attempt()
                worked.append(f"{what} {path}")
    for pid in told["pids"]:
        for what in ("environ", "maps", "mem", "fd"):
            with contextlib.suppress(OSError):
                place = f"/proc/{pid}/{what}"
                read(place) if what != "fd" else os.listdir(place)
                worked.append(f"read {place}")
        if told["uid"] != 0:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGCONT)
                worked.append(f"signal {pid}")
    ports = {str(port): answered(port, told["token"]) for port in told["ports"]}
    json.dump({"worked": worked, "ports": ports}, sys.stdout)


def attempts(path: str, *, is_gentle: bool) -> Iterator[tuple[str, Callable[[], object]]]:
    """What can be tried at a path, by its kind; `is_gentle` leaves everything as it is."""
    try:
        kind = os.lstat(path).st_mode
    except PermissionError:  # it is told to us; a guess would be as good
        kind = 0
    except OSError:
        return
    if stat.S_ISDIR(kind) or not kind:
        yield "list", lambda: os.listdir(path)
        if not is_gentle:
            yield "create in", lambda: created(f"{path}/planted-{os.getpid()}")
    if stat.S_ISSOCK(kind) or not kind:
        yield "connect", lambda: connected(path)
    if stat.S_ISREG(kind) or not kind:
        yield "read", lambda: read(path)
        if not is_gentle:
            yield "write", lambda: os.close(os.open(path, os.O_WRONLY))
            yield "link", lambda: linked(path)
    if not is_gentle:
        yield "rename", lambda: moved(path)
        yield "chmod", lambda: os.chmod(path, 0o777)


def read(path: str) -> None:
    """One byte of a file."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.read(file, 1)
    except OSError as exc:
        if exc.errno != errno.EIO:  # of /proc/PID/mem: it was opened, and there is nothing at 0
            raise
    finally:
        os.close(file)


def created(path: str) -> None:
    """A new file, and away with it."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.unlink(path)


def moved(path: str) -> None:
    """Another name for a moment."""
    os.rename(path, f"{path}.taken")
    os.rename(f"{path}.taken", path)


def linked(path: str) -> None:
    """A name of our own for somebody's file."""
    own = f"/tmp/linked-{os.getpid()}"
    os.link(path, own)
    os.unlink(own)


def connected(path: str) -> None:
    """A connection to a Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT_S)
        client.connect(path)


# --- ports ----------------------------------------------------------------------------------------


def answered(port: int, token: str) -> dict[str, Any]:
    """What listens there, and what it gives without a token and for this one (a guess if empty)."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        found = [each for each in over_http(port, token or GUESS) if each]
        return {"kind": "http", "got": found}
    replies = {
        f"{call} {shown}": grpc(port, f"/ray.rpc.{call}", shown)
        for call in (GRPC_CALLS if token else GRPC_CALLS + GRPC_ACTS)
        for shown in ("", token or GUESS)
    }
    if any(b"application/grpc" in reply for reply in replies.values()):
        done = [call for call, reply in replies.items() if b"grpc-status\x010" in reply]
        refused = [call for call, reply in replies.items() if REFUSED in reply]
        return {"kind": "grpc", "got": done, "refused": len(refused)}
    logins = {login: postgres(port, login) for login in LOGINS}
    if all(reply[:1] in (b"R", b"E") for reply in logins.values()):
        let_in = [login for login, reply in logins.items() if reply[5:9] == bytes(4)]
        return {"kind": "postgres", "got": let_in}
    return {"kind": "unknown", "got": []}


def over_http(port: int, token: str) -> Iterator[str]:
    """Each path that answers with more than a refusal."""
    for verb, path in HTTP_PATHS:
        for shown in ({}, {"Authorization": f"Bearer {token}", "X-Service-Key": token}):
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
            client.request(verb, path, body=b"{}" if verb == "POST" else None, headers=shown)
            status = client.getresponse().status
            client.close()
            yield f"{verb} {path} {status}" if status < 400 else ""


def grpc(port: int, path: str, token: str) -> bytes:
    """The raw answer to a call without content, over HTTP/2 by hand."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "here")]
    fields += [("content-type", "application/grpc"), ("te", "trailers")]
    fields += [("authorization", f"Bearer {token}")] if token else []
    head = b"".join(b"\0" + hpack(name) + hpack(value) for name, value in fields)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    sent = preface + frame(4, 0, 0, b"") + frame(1, 4, 1, head) + frame(0, 1, 1, bytes(5))
    return exchanged(port, sent, until=b"grpc-status")


def hpack(text: str) -> bytes:
    """A header's name or value as it is; all of ours are short."""
    assert len(text) < 127
    return bytes([len(text)]) + text.encode()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame of HTTP/2."""
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload
    )


def postgres(port: int, login: str) -> bytes:
    """What the server says to somebody who only gives a login's name."""
    parameters = f"user\0{login}\0database\0mana\0\0".encode()
    sent = struct.pack(">II", len(parameters) + 8, 196608) + parameters
    return exchanged(port, sent, until=b"")


def exchanged(port: int, sent: bytes, *, until: bytes) -> bytes:
    """What comes back, as far as these bytes; b"" for whatever comes first."""
    came = b""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(TIMEOUT_S)
        client.sendall(sent)
        while not came or until not in came:
            part = client.recv(65536)
            if not part:
                break
            came += part
    return came


if __name__ == "__main__":
    main()
