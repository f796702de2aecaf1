# Copyright the kontor authors
# SPDX-License-Identifier: Apache-2.0

class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  url:
    description: Where the registry is, such as V(https://registry.example). Or E(KONTOR_SERVER).
    type: str
    required: true
  username:
    description: The user. Or E(KONTOR_USER).
    type: str
  password:
    description: The password, or a personal token. Or E(KONTOR_PASSWORD).
    type: str
  auth_token:
    description: A token of Keystone, instead of a user and a password.
    type: str
  validate_certs:
    description: Whether the registry's certificate must be valid.
    type: bool
    default: true
  ca_path:
    description: A file of certificates to trust.
    type: path
  timeout:
    description: How long an answer may take, in seconds.
    type: int
    default: 30
"""
