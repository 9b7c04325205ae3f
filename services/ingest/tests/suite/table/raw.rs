//! Bodies that no JSON library writes.

use super::{Expected, Row, caption};
use photofinish_contract::request::BODY_BYTES_MAX;
use serde_json::json;

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn rows() -> Vec<Row> {
    let malformed = Expected::Refused(400, "malformed");
    let row = |name: &str, body: &[u8], expected: &Expected| Row {
        name: name.to_owned(),
        body: body.to_vec(),
        expected: expected.clone(),
    };
    let least = caption(json!({})).to_string();
    let mut rows = Vec::new();
    for (name, body) in [
        ("an empty body", ""),
        ("white space", " \n\t"),
        ("half an object", "{\"operation\": \"capt"),
        ("single quotes", "{'operation': 'caption'}"),
        ("a comma too many", "{\"operation\": \"caption\",}"),
        ("a comment", "// a job\n{}"),
        (
            "not a number",
            "{\"operation\": \"img2vid\", \"frame_rate\": NaN}",
        ),
        (
            "a number beyond all",
            "{\"operation\": \"img2vid\", \"frame_rate\": 1e999}",
        ),
        ("half a surrogate", "{\"operation\": \"\\ud800\"}"),
        (
            "a raw line break in a text",
            "{\"operation\": \"cap\ntion\"}",
        ),
        ("XML", "<job><operation>caption</operation></job>"),
        ("a form", "operation=caption&url_video=x"),
    ] {
        rows.push(row(name, body.as_bytes(), &malformed));
    }
    let deep = format!(
        "{{\"metadata\": {}1{}}}",
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let wide = format!("[{}0]", "0,".repeat(100_000));
    rows.extend([
        row(
            "two objects",
            format!("{least}{least}").as_bytes(),
            &malformed,
        ),
        row(
            "a byte order mark",
            format!("\u{feff}{least}").as_bytes(),
            &malformed,
        ),
        row("no UTF-8", b"{\"operation\": \"caption\xff\"}", &malformed),
        row(
            "UTF-16",
            &least
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect::<Vec<_>>(),
            &malformed,
        ),
        row("zeroes", &[0; 64], &malformed),
        row(
            "gzip",
            b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
            &malformed,
        ),
        row("nested 5000 deep", deep.as_bytes(), &malformed),
        row(
            "an array of 100001",
            wide.as_bytes(),
            &Expected::Faults(vec![("", "wrong_type")]),
        ),
        row(
            "white space around",
            format!("\n\t {least} \r\n").as_bytes(),
            &Expected::Accepted,
        ),
    ]);
    let padded = |bytes: usize| format!("{least}{}", " ".repeat(bytes - least.len()));
    let too_large = Expected::Refused(413, "body_too_large");
    rows.push(row(
        "a body of 1 MiB",
        padded(BODY_BYTES_MAX).as_bytes(),
        &Expected::Accepted,
    ));
    rows.push(row(
        "a body of 1 MiB and a byte",
        padded(BODY_BYTES_MAX + 1).as_bytes(),
        &too_large,
    ));
    rows
}
