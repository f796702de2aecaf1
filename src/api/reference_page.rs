//! The OpenAPI document as a page for people: plain HTML without scripts, so that it needs nothing from elsewhere and
//! opens in a cloud without internet.

use std::fmt::{self, Display, Write as _};

use actix_web::{HttpResponse, http::header};
use serde_json::Value;

use super::openapi;

/// Nothing but the page's own style may be loaded.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    code,b.method{font-family:ui-monospace,monospace}table{border-collapse:collapse;margin:.5rem 0}\
    td,th{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #8884}\
    h3{margin-top:2.5rem}nav li{list-style:none}:root{color-scheme:light dark}";

/// `GET /api/docs`. It is public, as the document is.
pub async fn get() -> HttpResponse {
    match page(&openapi::document()) {
        Ok(page) => HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8"))
            .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .body(page),
        Err(fmt::Error) => HttpResponse::InternalServerError().finish(),
    }
}

/// Text that stands in HTML.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

fn text<'a>(value: &'a Value, member: &str) -> Escaped<'a> {
    Escaped(value[member].as_str().unwrap_or_default())
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn page(document: &Value) -> Result<String, fmt::Error> {
    let mut page = String::new();
    let title = text(&document["info"], "title");
    write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style>\
         <h1>{title} {}</h1><p>{}</p><p>For programs: <a href=\"openapi.json\">openapi.json</a></p><nav><ul>",
        text(&document["info"], "version"),
        text(&document["info"], "description"),
    )?;
    let operations = || {
        members(&document["paths"])
            .flat_map(|(path, methods)| members(methods).map(move |(m, o)| (path, m, o)))
    };
    for (path, method, operation) in operations() {
        write!(
            page,
            "<li><a href=\"#{}\"><b class=\"method\">{}</b> <code>{}</code></a>",
            text(operation, "operationId"),
            method.to_uppercase(),
            Escaped(path)
        )?;
    }
    page.push_str("</ul></nav><h2>Operations</h2>");
    for (path, method, operation) in operations() {
        self::operation(&mut page, (path, method), operation)?;
    }
    page.push_str("<h2>Schemas</h2>");
    for (name, schema) in members(&document["components"]["schemas"]) {
        write!(page, "<h3 id=\"{0}\">{0}</h3>", Escaped(name))?;
        self::schema(&mut page, schema)?;
    }
    page.push_str("</html>\n");
    Ok(page)
}

fn operation(page: &mut String, (path, method): (&str, &str), operation: &Value) -> fmt::Result {
    write!(
        page,
        "<h3 id=\"{}\"><b class=\"method\">{}</b> <code>{}</code></h3><p>{} {}</p>",
        text(operation, "operationId"),
        method.to_uppercase(),
        Escaped(path),
        text(operation, "summary"),
        text(operation, "description"),
    )?;
    page.push_str("<table>");
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        write!(
            page,
            "<tr><td><code>{}</code><td>{}<td>{}<td>{}",
            text(parameter, "name"),
            text(parameter, "in"),
            kind(&parameter["schema"]),
            text(parameter, "description"),
        )?;
    }
    for (_, content) in members(&operation["requestBody"]["content"]) {
        write!(
            page,
            "<tr><td>document<td>body<td>{}<td>",
            kind(&content["schema"])
        )?;
    }
    page.push_str("</table><table>");
    for (status, response) in members(&operation["responses"]) {
        let content = members(&response["content"]).next();
        let schema = content.map_or(&Value::Null, |(_, content)| &content["schema"]);
        write!(
            page,
            "<tr><td>{status}<td>{}<td>{}",
            kind(schema),
            text(response, "description")
        )?;
    }
    page.push_str("</table>");
    Ok(())
}

fn schema(page: &mut String, schema: &Value) -> fmt::Result {
    write!(page, "<p>{}</p>", text(schema, "description"))?;
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !schema["properties"].is_object() {
        return write!(page, "<p>{}</p>", kind(schema));
    }
    page.push_str("<table>");
    for (name, member) in members(&schema["properties"]) {
        let need = if required.contains(&name.as_str()) {
            "required"
        } else {
            ""
        };
        write!(
            page,
            "<tr><td><code>{}</code><td>{}<td>{need}<td>{}",
            Escaped(name),
            kind(member),
            text(member, "description"),
        )?;
    }
    page.push_str("</table>");
    Ok(())
}

/// What a value is, as HTML: a type, a list of one, or a link to a schema.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = Escaped(reference.rsplit('/').next().unwrap_or_default());
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        if let Some(kinds) = schema[choice].as_array() {
            let kinds: Vec<String> = kinds.iter().map(kind).collect();
            return kinds.join(" or ");
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values
            .iter()
            .map(|value| Escaped(value.as_str().unwrap_or_default()).to_string())
            .collect();
        return values.join(", ");
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(name) => Escaped(name).to_string(),
        Value::Array(names) => {
            let inner = &schema["items"];
            let names = names.iter().filter_map(Value::as_str);
            let names: Vec<String> = names
                .map(|name| match name {
                    "array" => format!("list of {}", kind(inner)),
                    other => Escaped(other).to_string(),
                })
                .collect();
            names.join(" or ")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_every_operation_and_schema() {
        let document = openapi::document();
        let page = page(&document).unwrap();
        for (name, _) in members(&document["components"]["schemas"]) {
            assert!(page.contains(&format!("<h3 id=\"{name}\">")), "{name}");
        }
        for (_, methods) in members(&document["paths"]) {
            for (_, operation) in members(methods) {
                let id = operation["operationId"].as_str().unwrap();
                assert!(page.contains(&format!("<h3 id=\"{id}\">")), "{id}");
            }
        }
        // No link leads nowhere.
        for target in page.split("href=\"#").skip(1) {
            let target = target.split('"').next().unwrap();
            assert!(page.contains(&format!("id=\"{target}\"")), "{target}");
        }
    }

    #[test]
    fn text_cannot_become_markup() {
        let document = serde_json::json!({ "info": { "title": "<script>\"&" } });
        let page = page(&document).unwrap();
        assert!(page.contains("&lt;script&gt;&quot;&amp;"));
        assert!(!page.contains("<script"));
    }
}
