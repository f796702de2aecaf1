//! Reads what the registry has and makes the plan. All that can be found out beforehand is found out here, so that a
//! plan which is shown can be followed: the registry checks the documents of accounts in a dry run, rights of robots are
//! checked as it would, and what belongs to somebody else is refused.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    super::{
        CliError,
        args::Server,
        client::part,
        document::{Replaces, Versioned, account_path},
        robot::robots_path,
        user,
    },
    ApplyError,
    plan::{Action, Secret, Step, Target, confirmed, limits, mark, merged, owner},
    wanted::{Wanted, WantedAccount, WantedRobot, WantedUser, malformed, normalize},
};
use crate::model::account_rights::AccountRights;

/// How far the plan may go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    /// Accounts of others are taken over.
    pub adopts: bool,
    /// What the set owns and no file names goes.
    pub prunes: bool,
}

/// What has to be done, in this order.
pub(super) struct Plan {
    pub set: String,
    /// Deletions first.
    pub steps: Vec<Step>,
    /// How many accounts stay because the set does not own them. Counted only when something might be deleted.
    pub foreign_accounts: usize,
}

/// Makes the plan. Errors: a file asks for what the registry refuses, or for what is not the set's.
pub(super) async fn plan(server: &Server, wanted: Wanted, scope: Scope) -> Result<Plan, CliError> {
    if scope.prunes && !wanted.is_set_named {
        return Err(ApplyError::PruneOfNoSet.into());
    }
    let set = wanted.set;
    let mut accounts = Vec::new();
    for account in wanted.accounts {
        let current = server
            .read_maybe(&account_path(&account.name), "account")
            .await?;
        accounts.push((account, current));
    }
    if !scope.adopts {
        check_owners(&set, &accounts)?;
    }
    let mut plan = Plan {
        steps: Vec::new(),
        foreign_accounts: 0,
        set,
    };
    if scope.prunes {
        accounts_to_delete(server, &accounts, &mut plan).await?;
    }
    let mut changes = Vec::new();
    for (account, current) in accounts {
        let is_new = current.is_none();
        let (name, robots) = (account.name.clone(), account.robots.clone());
        changes.extend(account_step(server, account, current, &plan.set).await?);
        if let Some(robots) = robots {
            let steps = robot_steps(server, (&name, is_new), robots).await?;
            let (gone, others): (Vec<Step>, Vec<Step>) = steps
                .into_iter()
                .partition(|step| step.action == Action::Delete);
            changes.extend(others);
            if scope.prunes {
                plan.steps.extend(gone);
            }
        }
    }
    for user in wanted.users {
        changes.extend(user_step(server, user).await?);
    }
    plan.steps.extend(changes);
    Ok(plan)
}

fn check_owners(
    set: &str,
    accounts: &[(WantedAccount, Option<Versioned>)],
) -> Result<(), ApplyError> {
    let mut foreign = Vec::new();
    for (account, current) in accounts {
        let Some(current) = current else { continue };
        let document = Value::Object(current.document.clone());
        match owner(&document) {
            Some(owner) if owner == set => {}
            Some(owner) => foreign.push(format!("account {} is of the set {owner}", account.name)),
            None => foreign.push(format!("account {} is of no set", account.name)),
        }
    }
    match foreign.is_empty() {
        true => Ok(()),
        false => Err(ApplyError::NotOwned {
            set: set.to_owned(),
            foreign: foreign.join("; "),
        }),
    }
}

/// Accounts of the set that no file names. One that holds manifests is not deleted by the registry, and the plan says
/// so before anything else has changed.
async fn accounts_to_delete(
    server: &Server,
    accounts: &[(WantedAccount, Option<Versioned>)],
    plan: &mut Plan,
) -> Result<(), CliError> {
    let named: BTreeSet<&str> = accounts.iter().map(|(a, _)| a.name.as_str()).collect();
    let listed = server.list("/api/v1/accounts", "accounts").await?;
    let mut full = Vec::new();
    for account in listed.as_array().into_iter().flatten() {
        let name = account["name"].as_str().unwrap_or_default();
        if named.contains(name) {
            continue;
        }
        if owner(account) != Some(&plan.set) {
            plan.foreign_accounts += 1;
            continue;
        }
        // Read again: the list tells no versions, and what is deleted must be what was looked at.
        let Some(current) = server.read_maybe(&account_path(name), "account").await? else {
            continue;
        };
        let document = Value::Object(current.document);
        if owner(&document) != Some(&plan.set) {
            plan.foreign_accounts += 1;
            continue;
        }
        if document["state"] != "deleting" {
            let quota = server.call(Method::GET, &quota_path(name), None).await?;
            match quota["manifests"]["used"].as_u64().unwrap_or_default() {
                0 => {}
                count => full.push(format!("account {name} holds {count} manifests")),
            }
        }
        let target = Target::Account(name.to_owned());
        plan.steps.push(Step::deletion(target, current.version));
    }
    match full.is_empty() {
        true => Ok(()),
        false => Err(ApplyError::NotEmpty(full.join("; ")).into()),
    }
}

/// What has to be done for one account; nothing if it is as it should be.
async fn account_step(
    server: &Server,
    wanted: WantedAccount,
    current: Option<Versioned>,
    set: &str,
) -> Result<Option<Step>, CliError> {
    let mut members = wanted.members;
    let before = current.as_ref().map(|current| &current.document);
    mark(&mut members, before, set);
    let (document, mut differences) = merged(members, before);
    let mut document = (current.is_none() || !differences.is_empty()).then_some(document);
    if let Some(planned) = &document {
        let path = format!("{}?dry_run=true", account_path(&wanted.name));
        let planned = Value::Object(planned.clone());
        let answer = server.replace(&path, &planned, replaces(current.as_ref()));
        let answer = answer.await?;
        if current.is_some() {
            differences = confirmed(differences, &answer["changes"]);
            document = document.filter(|_| !differences.is_empty());
        }
    }
    let quota = match (&wanted.quota, &current) {
        (Some(_), Some(_)) => {
            let path = quota_path(&wanted.name);
            Some(server.call(Method::GET, &path, None).await?)
        }
        _ => None,
    };
    let (quota, more) = limits(wanted.quota.unwrap_or_default(), quota.as_ref());
    differences.extend(more);
    let action = action(current.is_none());
    Ok((document.is_some() || !quota.is_empty()).then(|| Step {
        target: Target::Account(wanted.name),
        action,
        differences,
        document,
        version: current.and_then(|current| current.version),
        quota,
        secret: Secret::None,
    }))
}

pub(super) fn replaces(current: Option<&Versioned>) -> Replaces<'_> {
    match current {
        None => Replaces::Nothing,
        Some(current) => Replaces::Version(current.version.as_ref()),
    }
}

fn action(is_new: bool) -> Action {
    match is_new {
        true => Action::Create,
        false => Action::Update,
    }
}

/// What has to be done for the robots of an account, deletions of those that no file names among it.
async fn robot_steps(
    server: &Server,
    (account, is_account_new): (&str, bool),
    wanted: Vec<WantedRobot>,
) -> Result<Vec<Step>, CliError> {
    let mut there = match is_account_new {
        true => Map::new(),
        false => robots(server, account).await?,
    };
    let mut steps = Vec::new();
    for robot in wanted {
        let current = match there.remove(&robot.name) {
            None => None,
            Some(_) => {
                let path = format!("{}/{}", robots_path(account), part(&robot.name));
                Some(server.read(&path, "robot").await?)
            }
        };
        steps.extend(robot_step(account, robot, current)?);
    }
    let gone = there.into_iter().map(|(robot, _)| {
        let account = account.to_owned();
        Step::deletion(Target::Robot { account, robot }, None)
    });
    steps.extend(gone);
    Ok(steps)
}

/// An account's robots by their names.
async fn robots(server: &Server, account: &str) -> Result<Map<String, Value>, CliError> {
    let listed = server.list(&robots_path(account), "robots").await?;
    let listed = listed.as_array().into_iter().flatten();
    let named =
        listed.filter_map(|robot| Some((robot["name"].as_str()?.to_owned(), robot.clone())));
    Ok(named.collect())
}

fn robot_step(
    account: &str,
    wanted: WantedRobot,
    current: Option<Versioned>,
) -> Result<Option<Step>, ApplyError> {
    let (document, differences) = compared(wanted.members, current.as_ref());
    if current.is_some() && differences.is_empty() {
        return Ok(None);
    }
    let rights = json!({
        "account": account,
        "permissions": document.get("permissions").unwrap_or(&json!([])),
        "repositories": document.get("repositories").unwrap_or(&json!([])),
    });
    let rights: Result<AccountRights, _> = serde_json::from_value(rights);
    let checked = rights
        .map_err(|error| error.to_string())
        .and_then(|rights| rights.validate().map_err(|error| error.to_string()));
    checked.or_else(|reason| {
        malformed(format!(
            "account {account}: robot {}: {reason}",
            wanted.name
        ))
    })?;
    let secret = match wanted.secret_file {
        Some(file) if current.is_none() => {
            if file.exists() {
                let file = file.display();
                return malformed(format!("{file} is there already, and is not written over"));
            }
            Secret::GoesTo(file)
        }
        _ => Secret::None,
    };
    let target = Target::Robot {
        account: account.to_owned(),
        robot: wanted.name,
    };
    Ok(Some(step(target, document, differences, (current, secret))))
}

async fn user_step(server: &Server, wanted: WantedUser) -> Result<Option<Step>, CliError> {
    let current = server.read_maybe(&user::path(&wanted.name), "user").await?;
    let (document, differences) = compared(wanted.members, current.as_ref());
    if current.is_some() && differences.is_empty() {
        return Ok(None);
    }
    let secret = match (&current, wanted.password) {
        (Some(_), _) => Secret::None,
        (None, Some(place)) => {
            place.password()?;
            Secret::ComesFrom(place)
        }
        (None, None) => {
            let name = wanted.name;
            let text = format!("user {name} is new and needs a password_file or password_env");
            return Err(ApplyError::Malformed(text).into());
        }
    };
    let target = Target::User(wanted.name);
    Ok(Some(step(target, document, differences, (current, secret))))
}

/// As [`merged`], for documents that the registry writes in one form.
fn compared(
    wanted: Map<String, Value>,
    current: Option<&Versioned>,
) -> (Map<String, Value>, Vec<super::plan::Difference>) {
    let before = current.map(|current| {
        let mut document = current.document.clone();
        // What this program does not understand is a difference, and that is right.
        let _ = normalize(&mut document);
        document
    });
    merged(wanted, before.as_ref())
}

fn step(
    target: Target,
    document: Map<String, Value>,
    differences: Vec<super::plan::Difference>,
    (current, secret): (Option<Versioned>, Secret),
) -> Step {
    Step {
        target,
        action: action(current.is_none()),
        differences,
        document: Some(document),
        version: current.and_then(|current| current.version),
        quota: Map::new(),
        secret,
    }
}

pub(super) fn quota_path(account: &str) -> String {
    format!("{}/quota", account_path(account))
}
