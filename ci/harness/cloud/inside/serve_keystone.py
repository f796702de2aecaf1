"""Keystone's WSGI application, served by waitress: run by the Python of the environment that has both.

Not gunicorn: Keystone reads the command line itself, and dies of gunicorn's.
"""

import sys

port = int(sys.argv[1])
sys.argv = ["keystone"]

from keystone.wsgi.api import application  # noqa: E402
from waitress import serve  # noqa: E402

# One thread: two that turn from reading SQLite to writing it are a "database is locked", and a 500.
serve(application, host="127.0.0.1", port=port, threads=1, ident=None)
