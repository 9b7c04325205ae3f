//! `docs/problems.md` has a section for every code, and no section for anything else.

use photofinish_model::Code;
use std::collections::BTreeMap;
use std::path::Path;

const PAGE: &str = "docs/problems.md";
/// A section says what happened and what to do; less than this says neither.
const SECTION_CHARS_MIN: usize = 60;

fn sections() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join(PAGE)).expect("the page is in the repository");
    let mut sections = BTreeMap::new();
    for section in page.split("\n## ").skip(1) {
        let (title, text) = section
            .split_once('\n')
            .expect("a heading is a line of its own");
        let before = sections.insert(title.trim().to_owned(), text.trim().to_owned());
        assert_eq!(before, None, "{PAGE} has two sections {title}");
    }
    sections
}

#[test]
fn every_code_has_a_section() {
    let sections = sections();
    for code in Code::ALL {
        let text = sections.get(code.as_str());
        let text = text.unwrap_or_else(|| panic!("{PAGE} has no section `## {code}`"));
        assert!(
            text.len() >= SECTION_CHARS_MIN,
            "{PAGE} says too little of {code}"
        );
    }
}

#[test]
fn every_section_is_a_code() {
    for title in sections().keys() {
        let known = Code::ALL.iter().any(|code| code.as_str() == title);
        assert!(known, "{PAGE} has a section `## {title}`, which is no code");
    }
}
