//! Audit events in the form of CADF (DMTF DSP0262), which audit services of OpenStack clouds read.

use serde_json::{Value, json};

use crate::model::audit::{AuditEvent, AuditOutcome, AuditWho};

/// The `typeURI` of an event (DSP0262, section 6.1).
const EVENT: &str = "http://schemas.dmtf.org/cloud/audit/1.0/event";

/// The event as a CADF document. `observer` names this registry among others.
pub fn cadf(event: &AuditEvent, observer: &str) -> Value {
    let outcome = match event.outcome {
        AuditOutcome::Success => "success",
        // CADF knows no third; the reason tells which it was.
        AuditOutcome::Failure | AuditOutcome::Denied => "failure",
    };
    let mut document = json!({
        "typeURI": EVENT,
        "id": event.id,
        "eventTime": event.at.format("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string(),
        "eventType": "activity",
        "action": format!("{}/{}", event.action.cadf_verb(), event.action.cadf_target()),
        "outcome": outcome,
        "reason": {
            "reasonType": "kontor",
            "reasonCode": event.outcome.as_str(),
            "policyType": event.action.as_str(),
        },
        "initiator": initiator(event),
        "target": target(event),
        "observer": {
            "typeURI": "service/storage/registry",
            "id": observer,
            "name": "kontor",
        },
    });
    if let Some(reason) = &event.reason {
        document["attachments"] = json!([attachment("reason", reason)]);
    }
    document
}

fn attachment(name: &str, content: &str) -> Value {
    json!({ "name": name, "typeURI": "mime:text/plain", "content": content })
}

fn initiator(event: &AuditEvent) -> Value {
    let nobody = AuditWho {
        name: "anonymous".into(),
        ..AuditWho::default()
    };
    let who = event.who.as_ref().unwrap_or(&nobody);
    let mut host = json!({});
    if let Some(client) = event.client {
        host["address"] = json!(client);
    }
    if let Some(agent) = &event.user_agent {
        host["agent"] = json!(agent);
    }
    let mut initiator = json!({
        "typeURI": "service/security/account/user",
        "id": who.id.as_ref().unwrap_or(&who.name),
        "name": who.name,
        "host": host,
    });
    if let Some(project) = &who.project_id {
        initiator["project_id"] = json!(project);
    }
    let more = [
        ("on_behalf_of", &who.on_behalf_of),
        ("token_id", &who.token_id),
        ("request_id", &event.request_id),
    ];
    let more: Vec<Value> = more
        .into_iter()
        .filter_map(|(name, value)| value.as_deref().map(|value| attachment(name, value)))
        .collect();
    if !more.is_empty() {
        initiator["attachments"] = json!(more);
    }
    initiator
}

fn target(event: &AuditEvent) -> Value {
    let target = &event.target;
    let place = target.repository.as_ref().or(event.account.as_ref());
    let name = target.name.as_ref().or(place);
    let id = match (place, &target.digest) {
        (Some(place), Some(digest)) => format!("{place}@{digest}"),
        _ => place.or(name).cloned().unwrap_or_else(|| "unknown".into()),
    };
    let mut document = json!({
        "typeURI": format!("service/storage/registry/{}", event.action.cadf_target()),
        "id": id,
    });
    if let Some(name) = name {
        document["name"] = json!(name);
    }
    if let Some(tenant) = &event.auth_tenant_id {
        document["project_id"] = json!(tenant);
    }
    if !target.tags.is_empty() {
        document["attachments"] = json!([attachment("tags", &target.tags.join(" "))]);
    }
    document
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::model::audit::AuditAction;

    #[test]
    fn the_members_are_those_of_the_specification() {
        let at = DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap();
        let mut event = AuditEvent::new(Uuid::from_u128(1), at, AuditAction::ManifestPush);
        event.who = Some(AuditWho {
            name: "keystone:ann@d/p@d".into(),
            id: Some("u1".into()),
            project_id: Some("p1".into()),
            on_behalf_of: None,
            token_id: Some("j1".into()),
        });
        event.client = Some("192.0.2.1".parse().unwrap());
        (event.account, event.auth_tenant_id) = (Some("acme".into()), Some("p1".into()));
        event.target.repository = Some("acme/app".into());
        event.target.digest = Some("sha256:ab".into());
        let event = event.ended(AuditOutcome::Denied, "no right");
        let document = cadf(&event, "kontor-1");
        assert_eq!(document["typeURI"], EVENT);
        assert_eq!(document["eventTime"], "2023-11-14T22:13:20.123456+00:00");
        assert_eq!(document["eventType"], "activity");
        assert_eq!(document["action"], "create/manifest");
        assert_eq!(document["outcome"], "failure");
        assert_eq!(document["reason"]["reasonCode"], "denied");
        assert_eq!(document["initiator"]["id"], "u1");
        assert_eq!(document["initiator"]["project_id"], "p1");
        assert_eq!(document["initiator"]["host"]["address"], "192.0.2.1");
        assert_eq!(document["target"]["id"], "acme/app@sha256:ab");
        assert_eq!(document["target"]["project_id"], "p1");
        assert_eq!(document["attachments"][0]["content"], "no right");
        assert_eq!(document["observer"]["id"], "kontor-1");
    }

    #[test]
    fn the_anonymous_have_an_initiator_too() {
        let event = AuditEvent::new(
            Uuid::from_u128(1),
            DateTime::UNIX_EPOCH,
            AuditAction::Access,
        );
        let document = cadf(&event, "x");
        assert_eq!(document["initiator"]["name"], "anonymous");
        assert_eq!(document["target"]["id"], "unknown");
    }
}
