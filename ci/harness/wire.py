"""Moving big bodies with as little work on the client's side as Python allows.

The load generator shares the machine with the server, so every cycle it spends is one the server lacks: bodies go from
a file by sendfile(2), and into one buffer that is overwritten. Both calls leave the interpreter lock.
"""

import socket
import threading
import time

from harness.content import MIB


def connect(port, receive_buffer=None, timeout=120):
    connection = socket.socket()
    if receive_buffer:  # must be set before connect(), or the window is already larger
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.connect(("127.0.0.1", port))
    return connection


def head(method, port, target, headers):
    lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{port}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def read_head(connection):
    """Reads a response's head. Returns `(status, headers in lower case, what came of the body)`."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise ConnectionError(f"closed in the head: {data[:200]!r}")
        data += more
    text, _, rest = data.partition(b"\r\n\r\n")
    lines = text.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, rest


def fetch(port, target, headers, size):
    """GETs a body of a known size and throws it away."""
    with connect(port) as connection:
        connection.sendall(head("GET", port, target, headers))
        status, _, rest = read_head(connection)
        buffer, length = bytearray(MIB), len(rest)
        while status == 200 and length < size:
            count = connection.recv_into(buffer)
            if not count:
                break
            length += count
    if status != 200 or length != size:
        raise RuntimeError(f"GET {target}: {status}, {length} of {size} bytes")


def fetch_parallel(port, target, headers, size, connections):
    """The seconds for `connections` downloads at once."""
    errors = []

    def one():
        try:
            fetch(port, target, headers, size)
        except Exception as error:  # noqa: BLE001 - raised below, in the thread that waits
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(connections)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return time.perf_counter() - began


def send_file(port, method, target, headers, path):
    """Sends a file as the body. Returns the status and what came of the answer's body."""
    with connect(port) as connection, open(path, "rb") as file:
        size = path.stat().st_size
        connection.sendall(head(method, port, target, {**headers, "Content-Length": size}))
        connection.sendfile(file)
        status, _, rest = read_head(connection)
    return status, rest
