//! What a command shows: tables for people, JSON for programs. Only results go to standard output.
//!
//! What a newcomer gets wrong: descriptions and names were chosen by others. A control character in one of them could
//! move the cursor of a terminal or change its title, so none is printed in a table; JSON escapes them anyway.

use clap::ValueEnum;
use serde_json::{Map, Value};

use super::{CliError, args::Server};

/// The form of a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

impl Server {
    /// Shows a list: these members of each element in a table, or all of them.
    pub(super) fn show_list(&self, values: &Value, columns: &[&str]) -> Result<(), CliError> {
        match self.output {
            Output::Json => print_json(values),
            Output::Table => {
                let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
                if values.is_empty() {
                    eprintln!("there are none");
                } else {
                    print!("{}", table(values, columns));
                }
                Ok(())
            }
        }
    }

    /// Shows one thing with all its members.
    pub(super) fn show(&self, value: &Value) -> Result<(), CliError> {
        match (self.output, value) {
            (Output::Table, Value::Object(members)) => {
                print!("{}", sheet(members));
                Ok(())
            }
            _ => print_json(value),
        }
    }

    /// Says what was done. A program does not need it in its JSON.
    pub(super) fn say(&self, text: &str) {
        match self.output {
            Output::Table => println!("{text}"),
            Output::Json => eprintln!("{text}"),
        }
    }

    /// Shows the details that only a program needs.
    pub(super) fn show_program(&self, value: &Value) -> Result<(), CliError> {
        match self.output {
            Output::Table => Ok(()),
            Output::Json => print_json(value),
        }
    }

    /// Prints a secret alone on standard output, for scripts, and what it is on standard error; as JSON the whole answer.
    pub(super) fn show_secret(
        &self,
        answer: &Value,
        member: &str,
        hint: &str,
    ) -> Result<(), CliError> {
        eprintln!("{hint} It is shown this once only:");
        match self.output {
            Output::Table => println!("{}", answer[member].as_str().unwrap_or_default()),
            Output::Json => print_json(answer)?,
        }
        Ok(())
    }
}

/// Prints a value as JSON.
pub(super) fn print_json(value: &Value) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value);
    println!("{}", text.map_err(std::io::Error::from)?);
    Ok(())
}

/// Aligned columns below their names.
fn table(values: &[Value], columns: &[&str]) -> String {
    let columns: Vec<(&str, &str)> = columns.iter().map(|column| named(column)).collect();
    let head = columns.iter().map(|(_, name)| name.to_uppercase());
    let mut rows: Vec<Vec<String>> = vec![head.collect()];
    rows.extend(values.iter().map(|value| {
        let cells = columns.iter().map(|(path, _)| cell(member(value, path)));
        cells.collect()
    }));
    let width = |number: usize| {
        let cells = rows.iter().map(|row| row[number].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A column's path and its name in the head: `path` or `path AS name`.
fn named(column: &str) -> (&str, &str) {
    column.split_once(" AS ").unwrap_or((column, column))
}

/// `a.b` is the member `b` of the member `a`.
fn member<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, name| &value[name])
}

/// A line for each member.
fn sheet(members: &Map<String, Value>) -> String {
    let width = members.keys().map(|name| name.chars().count()).max();
    let width = width.unwrap_or(0);
    let mut text = String::new();
    for (name, value) in members {
        let shown = match value {
            Value::Array(values) if values.iter().any(Value::is_object) => one_line(value),
            Value::Object(_) => one_line(value),
            simple => cell(simple),
        };
        text.push_str(&format!("{name:width$}  {shown}\n"));
    }
    text
}

/// What a person reads: lists with commas, and `-` for what is not there.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => harmless(text),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Object(members) => members.values().map(cell).collect::<Vec<_>>().join(":"),
        other => other.to_string(),
    }
}

/// JSON in one line; its encoder escapes only some control characters.
pub(super) fn one_line(value: &Value) -> String {
    harmless(&value.to_string())
}

/// Without characters that a terminal obeys.
pub(super) fn harmless(text: &str) -> String {
    let shown = text.chars().map(|c| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned_below_their_names() {
        let values = [
            json!({ "name": "a", "grants": [{ "t": "demo", "p": ["view", "pull"] }], "x": null }),
            json!({ "name": "größer", "grants": [], "x": { "y": 5 } }),
        ];
        let expected = "NAME    GRANTS          Y\n\
                        a       view,pull:demo  -\n\
                        größer  -               5\n";
        assert_eq!(table(&values, &["name", "grants", "x.y AS y"]), expected);
    }

    #[test]
    fn a_sheet_shows_policies_as_json() {
        let value = json!({ "name": "team", "list": [{ "a": 1 }], "flag": true });
        let expected = "flag  true\nlist  [{\"a\":1}]\nname  team\n";
        assert_eq!(sheet(value.as_object().unwrap()), expected);
    }

    #[test]
    fn nobody_can_send_commands_to_the_terminal() {
        let evil = "\u{1b}]0;title\u{7}\u{9b}2J\r\nfake line";
        for text in [
            table(&[json!({ "a": evil })], &["a"]),
            sheet(
                json!({ "a": evil, "b": [{ "c": evil }] })
                    .as_object()
                    .unwrap(),
            ),
        ] {
            let is_safe = |c: char| c == '\n' || !c.is_control();
            assert!(text.chars().all(is_safe), "{text:?}");
            assert!(
                text.contains("fake line") && text.lines().count() == 2,
                "{text:?}"
            );
        }
    }
}
