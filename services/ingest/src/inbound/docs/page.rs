//! The document as a page for people: no script, nothing from another host.
//!
//! Guarantee: everything that comes out of the document is escaped, and the page's style is the one thing that its
//! Content-Security-Policy lets pass.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

const STYLE: &str = include_str!("page.css");

/// What a browser may load: the style in the page, and nothing else.
pub(super) fn content_security_policy() -> String {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The page of a document.
pub(super) fn page(document: &Value) -> String {
    let mut html = String::new();
    let title = escaped(text(&document["info"]["title"]));
    let version = escaped(text(&document["info"]["version"]));
    let about = prose(text(&document["info"]["description"]));
    add(
        &mut html,
        &format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} API</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><style>{STYLE}</style></head>\
         <body><nav>"
        ),
    );
    let tags = list(&document["tags"]);
    for tag in tags {
        index(&mut html, document, text(&tag["name"]));
    }
    add(
        &mut html,
        "<h2><a href=\"#schemas\">schemas</a></h2></nav><main>",
    );
    add(
        &mut html,
        &format!(
            "<h1>{title} <small>{version}</small></h1><p>{about}</p>\
         <p>The same for machines: <a href=\"/openapi.json\">openapi.json</a> (OpenAPI 3.1).</p>"
        ),
    );
    for (name, scheme) in fields(&document["components"]["securitySchemes"]) {
        let how = match text(&scheme["type"]) {
            "http" => "Authorization: Bearer …".to_owned(),
            _ => format!("{}: …", text(&scheme["name"])),
        };
        let (name, about) = (escaped(name), prose(text(&scheme["description"])));
        add(
            &mut html,
            &format!(
                "<p><b>{name}</b> <code>{}</code> {about}</p>",
                escaped(&how)
            ),
        );
    }
    for tag in tags {
        let (name, about) = (
            escaped(text(&tag["name"])),
            prose(text(&tag["description"])),
        );
        add(
            &mut html,
            &format!("<h2 id=\"{name}\">{name}</h2><p>{about}</p>"),
        );
        for (method, path, operation) in calls(document, text(&tag["name"])) {
            call(&mut html, method, path, operation);
        }
    }
    add(&mut html, "<h2 id=\"schemas\">schemas</h2>");
    for (name, schema) in fields(&document["components"]["schemas"]) {
        let name = escaped(name);
        let schema = json(schema);
        add(
            &mut html,
            &format!(
                "<details id=\"schema-{name}\"><summary><code>{name}</code></summary>{schema}</details>"
            ),
        );
    }
    add(&mut html, "</main></body></html>");
    html
}

/// Every call of a tag: method, path, what it is.
fn calls<'a>(
    document: &'a Value,
    tag: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str, &'a Value)> {
    let paths = fields(&document["paths"]);
    let all = paths.flat_map(|(path, item)| {
        fields(item).map(move |(method, operation)| (method, path, operation))
    });
    all.filter(move |(_, _, operation)| operation["tags"][0] == tag)
}

fn index(html: &mut String, document: &Value, tag: &str) {
    let name = escaped(tag);
    add(
        html,
        &format!("<h2><a href=\"#{name}\">{name}</a></h2><ul>"),
    );
    for (method, path, operation) in calls(document, tag) {
        let id = escaped(text(&operation["operationId"]));
        let (method, path) = (escaped(method), escaped(path));
        add(
            html,
            &format!("<li><a href=\"#{id}\"><b class=\"{method}\">{method}</b> {path}</a></li>"),
        );
    }
    add(html, "</ul>");
}

fn call(html: &mut String, method: &str, path: &str, operation: &Value) {
    let id = escaped(text(&operation["operationId"]));
    let (method, path) = (escaped(method), escaped(path));
    let summary = prose(text(&operation["summary"]));
    add(
        html,
        &format!(
            "<section id=\"{id}\"><h3><b class=\"{method}\">{method}</b> <code>{path}</code></h3><p>{summary}</p>"
        ),
    );
    let about = text(&operation["description"]);
    if !about.is_empty() {
        add(html, &format!("<p>{}</p>", prose(about)));
    }
    let parameters = list(&operation["parameters"]);
    if !parameters.is_empty() {
        add(
            html,
            "<table><tr><th>parameter</th><th>in</th><th></th></tr>",
        );
        for parameter in parameters {
            let need = if parameter["required"] == true {
                " *"
            } else {
                ""
            };
            let (name, place) = (
                escaped(text(&parameter["name"])),
                escaped(text(&parameter["in"])),
            );
            let about = prose(text(&parameter["description"]));
            add(
                html,
                &format!(
                    "<tr><td><code>{name}</code>{need}</td><td>{place}</td><td>{about}</td></tr>"
                ),
            );
        }
        add(html, "</table>");
    }
    if let Some(body) = operation.get("requestBody") {
        add(html, &format!("<p>Body: {}</p>", content(body)));
    }
    add(html, "<table><tr><th>answer</th><th></th><th></th></tr>");
    for (status, response) in fields(&operation["responses"]) {
        let (status, about) = (escaped(status), prose(text(&response["description"])));
        let content = content(response);
        add(
            html,
            &format!("<tr><td><code>{status}</code></td><td>{about}</td><td>{content}</td></tr>"),
        );
    }
    add(html, "</table></section>");
}

/// The types of a body with their schemas.
fn content(of: &Value) -> String {
    let kinds = fields(&of["content"]).map(|(kind, content)| {
        format!(
            "{} <small>{}</small>",
            named(&content["schema"]),
            escaped(kind)
        )
    });
    kinds.collect::<Vec<_>>().join("<br>")
}

/// A schema by its name if it has one, else as it is.
fn named(schema: &Value) -> String {
    if let Some(path) = schema["$ref"].as_str() {
        let name = escaped(path.rsplit('/').next().unwrap_or_default());
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    let choices = list(&schema["oneOf"]);
    if choices.is_empty() {
        return escaped(text(&schema["type"]));
    }
    choices.iter().map(named).collect::<Vec<_>>().join(" or ")
}

/// JSON with links to the schemas that it names.
fn json(value: &Value) -> String {
    let pretty = serde_json::to_string_pretty(value).unwrap_or_default();
    let mut html = "<pre>".to_owned();
    for line in pretty.lines() {
        let reference = line.split_once("#/components/schemas/");
        match reference.and_then(|(_, rest)| rest.split('"').next()) {
            Some(name) => {
                let (line, name) = (escaped(line), escaped(name));
                add(
                    &mut html,
                    &format!("<a href=\"#schema-{name}\">{line}</a>\n"),
                );
            }
            None => add(&mut html, &format!("{}\n", escaped(line))),
        }
    }
    html + "</pre>"
}

/// Text with what stands between backticks as code.
fn prose(text: &str) -> String {
    let mut html = String::new();
    for (place, piece) in text.split('`').enumerate() {
        let piece = escaped(piece);
        if place % 2 == 1 {
            add(&mut html, &format!("<code>{piece}</code>"));
        } else {
            add(&mut html, &piece);
        }
    }
    html
}

fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

fn add(html: &mut String, more: &str) {
    // Writing to a text cannot fail.
    let _written = html.write_str(more);
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn fields(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let fields = value.as_object().into_iter().flat_map(Map::iter);
    fields.map(|(name, value)| (name.as_str(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whatever_a_document_says_stays_text() {
        let evil = "<script>alert(\"x\")</script> `<b>`";
        let document = json!({"info": {"title": evil, "description": evil},
            "tags": [{"name": "t", "description": evil}],
            "paths": {evil: {"get": {"tags": ["t"], "summary": evil, "operationId": evil,
                "parameters": [{"name": evil, "in": "query"}], "responses": {"200": {"description": evil}}}}},
            "components": {"schemas": {"S": {"description": evil}}}});
        let html = page(&document);
        assert!(
            !html.contains("<script") && !html.contains("\"x\""),
            "{html}"
        );
        assert!(html.contains("<code>&lt;b&gt;</code>"), "{html}");
    }
}
