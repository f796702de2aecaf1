"""What `ci/crash` and `ci/bench` share: processes, servers, a registry client, made-up content.

Python's standard library only, so that the scripts run wherever the tests run. Everything binds to the loopback
address, everything has a time limit, and only processes that were started here are ever signalled, by their id.
"""
