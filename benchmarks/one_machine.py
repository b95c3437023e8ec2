"""A network that has nothing but loopback, where names of services elsewhere lead to this machine, and names that were asked for are noted.

Linux only: a network namespace, whose default ports are all free and out of which no packet gets, and a mount namespace, in which
/etc/hosts and /etc/resolv.conf are others. Needs no rights beyond user namespaces.
"""

from __future__ import annotations

import datetime
import fcntl
import os
import pathlib
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1  # netdevice(7)
NAME_PORT = 53
HEADER_BYTES = 12  # of a DNS message; RFC 1035, section 4.1.1
NO_SUCH_NAME = 0x8183  # an answer, recursion asked for and available, code 3
LOOPBACK = "127.0.0.1"
FILES = {
    "resolv.conf": f"nameserver {LOOPBACK}\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",  # no service of this machine that resolves names by itself
}


def is_alone() -> bool:
    """Whether this process has no network but loopback."""
    return [name for _, name in socket.if_nameindex()] == ["lo"]


def start_again_alone() -> NoReturn:
    """Become this program with the same arguments, in namespaces of its own."""
    own_user = ["--map-root-user"] if os.geteuid() else []
    os.execvp("unshare", ["unshare", "--net", "--mount", *own_user, "--", sys.executable, *sys.argv])


def bring_up(folder: pathlib.Path, names: Sequence[str]) -> None:
    """Switch loopback on, let `names` lead to it, and send all other questions for names to `NameServer`.

    Args:
        folder: for the files that take the places of those in /etc.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
    hosts = {"hosts": f"{LOOPBACK} localhost {socket.gethostname()} {' '.join(names)}\n"}
    for name, content in {**hosts, **FILES}.items():
        (folder / name).write_text(content)
        if pathlib.Path("/etc", name).exists():
            subprocess.run(["mount", "--bind", folder / name, f"/etc/{name}"], check=True)


class NameServer(socketserver.ThreadingUDPServer):
    """Knows no name, and notes which it was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((LOOPBACK, NAME_PORT), _Question)
        self.asked: set[str] = set()


class _Question(socketserver.BaseRequestHandler):
    server: NameServer

    def handle(self) -> None:
        message, answers_to = self.request
        labels, place = [], HEADER_BYTES
        while message[place]:
            labels.append(message[place + 1 : place + 1 + message[place]].decode(errors="replace"))
            place += 1 + message[place]
        self.server.asked.add(".".join(labels))
        header = message[:2] + struct.pack("!5H", NO_SUCH_NAME, 1, 0, 0, 0)
        answers_to.sendto(header + message[HEADER_BYTES : place + 5], self.client_address)


def make_certificate(folder: pathlib.Path, name: str) -> tuple[pathlib.Path, ssl.SSLContext]:
    """A certificate for the host `name`, as a file that clients can trust, and what a server needs to show it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    shown, own = folder / "certificate.pem", folder / "key.pem"
    shown.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    own.write_bytes(key.private_bytes(*form))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown, own)
    return shown, context
