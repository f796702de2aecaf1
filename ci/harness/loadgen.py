"""wrk and ab, and reading their reports."""

import re

from harness.processes import run

UNITS = {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}


class LoadError(RuntimeError):
    pass


def wrk(directory, port, targets, headers, connections, seconds):
    """GETs the targets in turn. Returns `(requests/s, p50 ms, p99 ms)`."""
    script = directory / "wrk.lua"
    lines = ["local n, requests = 0, {}", "init = function(args)"]
    lines += [f'  requests[{i}] = wrk.format("GET", "{target}")' for i, target in enumerate(targets, 1)]
    lines += ["end", "request = function()", f"  n = n % {len(targets)} + 1", "  return requests[n]", "end"]
    script.write_text("\n".join(lines))
    command = ["wrk", "-t", min(2, connections), "-c", connections, "-d", f"{seconds}s", "--latency"]
    command += ["--timeout", "20s"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    text = _output([*command, "-s", script, f"http://127.0.0.1:{port}"], seconds + 60)
    if bad := re.search(r"Non-2xx or 3xx responses: (\d+)", text):
        raise LoadError(f"{bad[1]} answers were no 2xx:\n{text}")
    if bad := re.search(r"Socket errors: .*", text):
        raise LoadError(f"{bad[0]}\n{text}")
    return (float(_find(r"Requests/sec:\s+([\d.]+)", text)),
            _milliseconds(_find(r"\s50%\s+(\S+)", text)), _milliseconds(_find(r"\s99%\s+(\S+)", text)))


def ab_head(port, target, headers, connections, seconds):
    """HEADs one target (wrk hangs on HEAD). Returns requests/s."""
    command = ["ab", "-q", "-i", "-k", "-t", seconds, "-n", 500_000, "-c", connections]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    text = _output([*command, f"http://127.0.0.1:{port}{target}"], seconds + 60)
    if bad := re.search(r"Non-2xx responses:\s+(\d+)", text):
        raise LoadError(f"{bad[1]} answers were no 2xx:\n{text}")
    return float(_find(r"Requests per second:\s+([\d.]+)", text))


def _output(command, seconds):
    done = run(command, seconds)
    if done.returncode:
        raise LoadError(f"{command[0]} failed: {done.stdout[-500:]} {done.stderr[-500:]}")
    return done.stdout


def _find(pattern, text):
    found = re.search(pattern, text)
    if not found:
        raise LoadError(f"no {pattern} in:\n{text}")
    return found[1]


def _milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()
    return float(number) * UNITS[unit]
