//! What the demo tells a person, on standard output.
#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]

/// One line.
pub fn say(text: impl AsRef<str>) {
    println!("{}", text.as_ref());
}
