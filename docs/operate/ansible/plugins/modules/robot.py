#!/usr/bin/python
# Copyright the kontor authors
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: robot
short_description: Robots of an account of a kontor registry
description:
  - Makes a machine that may log in, changes what it may do, or removes it.
  - The secret of a new robot is returned once; it cannot be read again.
options:
  account:
    description: The account.
    type: str
    required: true
  name:
    description: The robot's name.
    type: str
    required: true
  state:
    description: Whether the robot should be there.
    type: str
    choices: [present, absent]
    default: present
  description:
    description: For people.
    type: str
    default: ""
  permissions:
    description: What it may do.
    type: list
    elements: str
    choices: [view, pull, push, delete]
  repositories:
    description: Where, as regular expressions over the account's repositories; everywhere if there are none.
    type: list
    elements: str
    default: []
  is_disabled:
    description: Whether it may not log in.
    type: bool
    default: false
extends_documentation_fragment: kontor.registry.login
author: The kontor authors
"""

EXAMPLES = r"""
- name: A machine that may push to one repository
  kontor.registry.robot:
    url: https://registry.example
    username: admin
    password: "{{ registry_password }}"
    account: acme
    name: ci
    permissions: [pull, push]
    repositories: [app]
  register: made
  no_log: true
"""

RETURN = r"""
robot:
  description: The robot.
  returned: when it is there
  type: dict
secret:
  description: The secret, if the robot was made now.
  returned: when it was made
  type: str
"""

from ansible_collections.kontor.registry.plugins.module_utils.api import Api, finish, module, part

SETTINGS = ("description", "permissions", "repositories", "is_disabled")


def wanted(params):
    """The document of the wish, in the order in which the registry shows lists."""
    document = {key: params[key] for key in SETTINGS}
    order = ["view", "pull", "push", "delete"]
    document["permissions"] = sorted(set(params["permissions"]), key=order.index)
    return document


def main():
    this = module(
        {
            "account": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "description": {"type": "str", "default": ""},
            "permissions": {"type": "list", "elements": "str", "choices": ["view", "pull", "push", "delete"]},
            "repositories": {"type": "list", "elements": "str", "default": []},
            "is_disabled": {"type": "bool", "default": False},
        },
        required_if=[("state", "present", ("permissions",))],
    )
    params = this.params
    api, robots = Api(this), "/accounts/%s/robots" % part(params["account"])
    path = robots + "/" + part(params["name"])
    answer, etag = api.call("GET", path, missing_is={})
    robot = answer.get("robot", {})
    before = {key: robot[key] for key in SETTINGS} if robot else {}
    if params["state"] == "absent":
        if robot and not this.check_mode:
            api.call("DELETE", path, etag=etag)
        finish(this, bool(robot), before, {})
    after = wanted(params)
    facts = {"robot": robot}
    if after != before and not this.check_mode:
        if robot:
            # What is not managed here, such as its end, stays.
            made, _ignored = api.call("PUT", path, dict(after, expires_at=robot["expires_at"]), etag)
        else:
            made, _ignored = api.call("POST", robots, dict(after, name=params["name"]))
            facts["secret"] = made["secret"]
        facts["robot"] = made["robot"]
    finish(this, after != before, before, after, **facts)


if __name__ == "__main__":
    main()
