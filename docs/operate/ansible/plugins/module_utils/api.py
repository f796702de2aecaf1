# Copyright the kontor authors
# SPDX-License-Identifier: Apache-2.0
"""Speaking to the management API: what the modules share. Plain HTTP, no dependency but ansible-core."""

import json
from urllib.error import HTTPError, URLError
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule, env_fallback
from ansible.module_utils.common.text.converters import to_text
from ansible.module_utils.urls import open_url

LOGIN = {
    "url": {"type": "str", "required": True, "fallback": (env_fallback, ["KONTOR_SERVER"])},
    "username": {"type": "str", "fallback": (env_fallback, ["KONTOR_USER"])},
    "password": {"type": "str", "no_log": True, "fallback": (env_fallback, ["KONTOR_PASSWORD"])},
    "auth_token": {"type": "str", "no_log": True},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "timeout": {"type": "int", "default": 30},
}


def module(arguments, one_of=(), **options):
    """A module with these arguments and those of the login; of each group in `one_of`, one must be given."""
    return AnsibleModule(
        argument_spec=dict(LOGIN, **arguments),
        supports_check_mode=True,
        required_one_of=[("username", "auth_token"), *one_of],
        mutually_exclusive=[("username", "auth_token"), *one_of],
        required_by={"username": ["password"]},
        **options,
    )


def part(name):
    """A name as a part of a path."""
    return quote(name, safe="")


class Api:
    """A registry, as whoever the arguments of the module name."""

    def __init__(self, module):
        self.module = module
        self.base = module.params["url"].rstrip("/") + "/api/v1"

    def call(self, method, path, document=None, etag=None, missing_is=None):
        """Sends a request; gives the answer's document and its ETag. Ends the module with what the registry says
        against it, but a 404 gives `missing_is`, if that is not None."""
        params = self.module.params
        headers = {"Accept": "application/json"}
        if document is not None:
            headers["Content-Type"] = "application/json"
        if etag:
            headers["If-Match"] = etag
        if params["auth_token"]:
            headers["X-Auth-Token"] = params["auth_token"]
        try:
            answer = open_url(
                self.base + path,
                method=method,
                data=None if document is None else json.dumps(document),
                headers=headers,
                url_username=params["username"],
                url_password=params["password"],
                force_basic_auth=params["username"] is not None,
                validate_certs=params["validate_certs"],
                ca_path=params["ca_path"],
                timeout=params["timeout"],
            )
        except HTTPError as error:
            if error.code == 404 and missing_is is not None:
                return missing_is, None
            self.fail(method, path, error)
        except (URLError, OSError) as error:
            self.module.fail_json(msg="cannot reach the registry at %s: %s" % (params["url"], to_text(error)))
        text = answer.read()
        return (json.loads(text) if text else {}), answer.headers.get("ETag")

    def fail(self, method, path, error):
        """Ends the module with the registry's own words."""
        try:
            problem = json.loads(error.read())
        except ValueError:
            problem = {}
        message = problem.get("detail") or to_text(error)
        self.module.fail_json(msg="%s %s: %s" % (method, path, message), status=error.code, problem=problem)


def finish(module, changed, before, after, **facts):
    """Ends the module; the documents are shown with --diff."""
    module.exit_json(changed=changed, diff={"before": before or {}, "after": after or {}}, **facts)
