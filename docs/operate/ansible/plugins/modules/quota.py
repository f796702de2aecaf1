#!/usr/bin/python
# Copyright the kontor authors
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: quota
short_description: Quotas of accounts and auth tenants of a kontor registry
description:
  - Sets how much an account, or all accounts of an auth tenant together, may hold.
options:
  account:
    description: The account whose quota is meant.
    type: str
  auth_tenant_id:
    description: The auth tenant whose quota is meant.
    type: str
  bytes:
    description: How many bytes; V(-1) is no limit. Left out, it stays as it is.
    type: int
  manifests:
    description: How many manifests; V(-1) is no limit. Left out, it stays as it is.
    type: int
  repositories:
    description: How many repositories; V(-1) is no limit. Left out, it stays as it is.
    type: int
extends_documentation_fragment: kontor.registry.login
author: The kontor authors
"""

EXAMPLES = r"""
- name: 10 GiB for all accounts of a project
  kontor.registry.quota:
    url: https://registry.example
    username: admin
    password: "{{ registry_password }}"
    auth_tenant_id: 9ed7a2a7e8b74fa7a5f5f0f6d0f5b6a1
    bytes: 10737418240
"""

RETURN = r"""
quota:
  description: Limits and usage.
  returned: always
  type: dict
"""

from ansible_collections.kontor.registry.plugins.module_utils.api import Api, finish, module, part

RESOURCES = ("bytes", "manifests", "repositories")


def main():
    this = module(
        dict({name: {"type": "int"} for name in RESOURCES}, account={"type": "str"}, auth_tenant_id={"type": "str"}),
        one_of=[("account", "auth_tenant_id")],
    )
    params = this.params
    kind = ("/accounts/", params["account"]) if params["account"] else ("/auth-tenants/", params["auth_tenant_id"])
    api, path = Api(this), kind[0] + part(kind[1]) + "/quota"
    quota, etag = api.call("GET", path)
    before = {name: quota[name]["limit"] for name in RESOURCES}
    after = dict(before)
    for name in RESOURCES:
        if params[name] is not None:
            after[name] = None if params[name] < 0 else params[name]
    if after != before and not this.check_mode:
        quota, _ignored = api.call("PUT", path, {name: {"limit": limit} for name, limit in after.items()}, etag)
    finish(this, after != before, before, after, quota=quota)


if __name__ == "__main__":
    main()
