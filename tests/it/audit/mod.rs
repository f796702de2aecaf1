//! The audit trail: an event for each decision, the chain, who may read it, where it goes.

mod api;
mod chain;
mod commands;
mod events;
mod hostile;
mod sinks;

use reqwest::Method;
use serde_json::Value;

use crate::support::{PASSWORD, TestRegistry};

impl TestRegistry {
    /// Seals all that has happened so far.
    pub async fn audit_settle(&self) {
        while self.registry.audit_is_waiting().await.unwrap() {
            self.registry.audit_seal().await.unwrap();
        }
    }

    /// The events that match, the oldest first.
    pub async fn audit_events(&self, query: &str) -> Vec<Value> {
        self.audit_settle().await;
        let path = format!("/api/v1/audit?limit=1000&{query}");
        let answer = self.admin(Method::GET, &path).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        let answer: Value = answer.json().await.unwrap();
        let events = answer["events"].as_array().unwrap();
        events.iter().rev().map(|e| e["event"].clone()).collect()
    }

    /// The last event that matches.
    pub async fn audit_last(&self, query: &str) -> Value {
        let events = self.audit_events(query).await;
        events
            .into_iter()
            .next_back()
            .unwrap_or_else(|| panic!("no event for {query}"))
    }

    /// The status of a `GET` of somebody at the trail.
    pub async fn audit_status(&self, user: &str, query: &str) -> u16 {
        let path = format!("/api/v1/audit?{query}");
        let request = self.basic(user, PASSWORD, Method::GET, &path);
        request.send().await.unwrap().status().as_u16()
    }
}
