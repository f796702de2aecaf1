"""People of the cloud for the tests of the driver `keystone`: a disabled one, one with odd names, application credentials.

The people with ordinary lives are the tenants of keystone.py.
"""

from harness.cloud import rest

PASSWORD = "people-password-of-the-cloud"
# Names that hold what separates the parts of a login name.
ODD = {"user": "odd@user/x", "domain": "odd@domain/x", "project": "odd/project@x"}


def populate(keystone, ask, known):
    """Makes them, and returns what the tests need to know. `known`: the tenants' domain, projects and roles, by name
    their ids."""
    domain, projects, roles = known

    def make(kind, **fields):
        return ask("POST", f"/{kind}s", {kind: fields})[kind]["id"]

    def grant(project, user, role):
        ask("PUT", f"/projects/{project}/users/{user}/roles/{roles[role]}")

    roles["cloud_registry_admin"] = make("role", name="cloud_registry_admin")
    for name, role in (("carol", "manager"), ("operator", "cloud_registry_admin"), ("dave", "member")):
        user = make("user", name=name, password=PASSWORD, domain_id=domain)
        grant(projects["project-one"], user, role)
        if name == "dave":
            ask("PATCH", f"/users/{user}", {"user": {"enabled": False}})

    odd_domain = make("domain", name=ODD["domain"])
    odd_project = make("project", name=ODD["project"], domain_id=odd_domain)
    odd_user = make("user", name=ODD["user"], password=PASSWORD, domain_id=odd_domain)
    grant(odd_project, odd_user, "member")

    def credential(login, **fields):
        """A user's own: nobody else can make it."""
        token, content = keystone.token(*login)
        answer = rest.call("POST", f"{keystone.url}/users/{content['user']['id']}/application_credentials",
                           {"X-Auth-Token": token}, {"application_credential": fields}, statuses=(201,))
        made = answer.json()["application_credential"]
        return {name: made[name] for name in ("id", "name", "secret")}

    alice = ("alice", "alice-password-of-the-cloud", "project-one", "tenants")
    odd = (ODD["user"], PASSWORD, ODD["project"], ODD["domain"])
    return {
        "people_password": PASSWORD,
        "odd": {**ODD, "project_id": odd_project},
        "credentials": {
            "push": credential(alice, name="ci push"),
            "pull": credential(alice, name="ci-pull", roles=[{"name": "reader"}]),
            "bound": credential(alice, name="bound", access_rules=[
                {"path": "/v2.1/servers", "method": "GET", "service": "compute"}]),
            "odd": credential(odd, name="odd"),
        },
    }
