#!/usr/bin/python
# Copyright the kontor authors
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: account
short_description: Accounts of a kontor registry
description:
  - Makes an account, changes its settings, or deletes it.
  - The registry itself says what would change, so a check and the change cannot disagree.
options:
  name:
    description: The account.
    type: str
    required: true
  state:
    description: Whether the account should be there. An account that holds manifests is not deleted.
    type: str
    choices: [present, absent]
    default: present
  auth_tenant_id:
    description: Who owns the account. Needed to make it; it never changes.
    type: str
  storage:
    description: The storage backend of a new account; the registry's default if left out.
    type: str
  settings:
    description:
      - All settings as the API takes them, such as C(rbac_policies), C(tag_policies) or C(gc_policies).
      - They are replaced as a whole; what is left out gets its default. Left out altogether, they stay as they are.
    type: dict
extends_documentation_fragment: kontor.registry.login
author: The kontor authors
"""

EXAMPLES = r"""
- name: An account whose library everybody may pull
  kontor.registry.account:
    url: https://registry.example
    username: admin
    password: "{{ registry_password }}"
    name: acme
    auth_tenant_id: acme
    settings:
      rbac_policies:
        - match_repository: library/.*
          permissions: [anonymous_pull]
"""

RETURN = r"""
account:
  description: The account as it is now; in check mode, as it was.
  returned: when it is there
  type: dict
changes:
  description: What changed, each with path, before and after.
  returned: when state is present
  type: list
  elements: dict
"""

from ansible_collections.kontor.registry.plugins.module_utils.api import Api, finish, module, part

# What the API shows of an account that is no setting.
NO_SETTINGS = ("name", "auth_tenant_id", "storage", "state")


def ordered(params, current):
    """The document of the wish."""
    settings = params["settings"]
    if settings is None:
        settings = {key: value for key, value in current.items() if key not in NO_SETTINGS}
    document = dict(settings)
    for key in ("auth_tenant_id", "storage"):
        if params[key] is not None:
            document[key] = params[key]
    return document


def main():
    this = module({
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "auth_tenant_id": {"type": "str"},
        "storage": {"type": "str"},
        "settings": {"type": "dict"},
    })
    api, path = Api(this), "/accounts/" + part(this.params["name"])
    answer, etag = api.call("GET", path, missing_is={})
    current = answer.get("account", {})
    if this.params["state"] == "absent":
        if current and not this.check_mode:
            api.call("DELETE", path, etag=etag)
        finish(this, bool(current), current, {})
    document = ordered(this.params, current)
    plan, _ignored = api.call("PUT", path + "?dry_run=true", document, etag)
    changed, after = bool(plan["created"] or plan["changes"]), plan["account"]
    facts = {"account": current, "changes": plan["changes"]}
    if changed and not this.check_mode:
        made, _ignored = api.call("PUT", path, document, etag)
        facts["account"] = after = made["account"]
    finish(this, changed, current, after, **facts)


if __name__ == "__main__":
    main()
