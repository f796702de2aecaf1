//! The policy file: YAML, of which JSON is a part, with one level of names and texts, each with its place.
//!
//! Only events of the parser are looked at: no value is guessed to be a number or a boolean, and nothing is expanded.
//!
//! What a newcomer gets wrong: in YAML `!` without quotes is a tag on nothing, and `name:` without a text is null.
//! oslo.policy takes a null rule for "everybody may"; here both are errors.

use std::collections::HashSet;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::{MAX_RULES, Place, Problem};

/// A rule as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) text: String,
    /// Where the text begins.
    pub(super) place: Place,
}

fn place(span: Span) -> Place {
    Place {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

fn problem(span: Span, reason: impl Into<String>) -> Problem {
    Problem {
        place: Some(place(span)),
        rule: None,
        reason: reason.into(),
    }
}

type Events<'a> = Parser<'a, saphyr_parser::StrInput<'a>>;

/// The next event that says something.
fn next<'a>(events: &mut Events<'a>) -> Result<(Event<'a>, Span), Problem> {
    loop {
        match events.next_event() {
            None => {
                return Err(Problem {
                    place: None,
                    rule: None,
                    reason: "the file ends too early".to_owned(),
                });
            }
            Some(Err(error)) => {
                let at = Span::empty(*error.marker());
                return Err(problem(at, format!("not valid YAML: {}", error.info())));
            }
            Some(Ok((Event::Nothing | Event::StreamStart | Event::DocumentStart(_), _))) => {}
            Some(Ok(found)) => return Ok(found),
        }
    }
}

/// Reads the rules in the order of the file. Errors: anything but a mapping of different names to strings.
pub(super) fn entries(text: &str) -> Result<Vec<Entry>, Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut events = Parser::new_from_str(text);
    match next(&mut events)? {
        (Event::MappingStart(..), _) => {}
        (Event::StreamEnd | Event::DocumentEnd, span) => return Err(problem(span, "no rules")),
        (_, span) => return Err(problem(span, "the file must be a mapping of rules")),
    }
    let (mut found, mut names) = (Vec::new(), HashSet::new());
    loop {
        let (event, span) = next(&mut events)?;
        if event == Event::MappingEnd {
            break;
        }
        let Event::Scalar(name, _, _, None) = event else {
            return Err(problem(span, "the name of a rule must be a plain string"));
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            let reason = format!("{name:?} cannot be the name of a rule");
            return Err(problem(span, reason));
        }
        if !names.insert(name.to_string()) {
            return Err(problem(span, format!("the rule {name:?} stands twice")));
        }
        if found.len() == MAX_RULES {
            return Err(problem(span, format!("more than {MAX_RULES} rules")));
        }
        found.push(entry(&name, next(&mut events)?)?);
    }
    loop {
        match next(&mut events)? {
            (Event::StreamEnd, _) => return Ok(found),
            (Event::DocumentEnd, _) => {}
            (_, span) => return Err(problem(span, "a second document")),
        }
    }
}

fn entry(name: &str, (event, span): (Event<'_>, Span)) -> Result<Entry, Problem> {
    let reason = match event {
        Event::Scalar(text, ScalarStyle::Plain, _, None) if text.is_empty() => {
            "there is no text; write \"\" if everybody may, and \"!\" if nobody may"
        }
        Event::Scalar(text, _, _, None) => {
            return Ok(Entry {
                name: name.to_owned(),
                text: text.into_owned(),
                place: place(span),
            });
        }
        Event::Scalar(..) => "a tag is not supported; put ! into quotes",
        Event::SequenceStart(..) => {
            "lists of lists, the old form, are not supported; write one string with and, or, not"
        }
        Event::Alias(..) => "aliases are not supported",
        _ => "the text must be a string",
    };
    Err(Problem {
        rule: Some(name.to_owned()),
        ..problem(span, reason)
    })
}
