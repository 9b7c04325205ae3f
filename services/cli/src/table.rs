//! Tables that fit where they go. Pure: cells and a [`Look`] in, a text out.
//!
//! Guarantee: on a terminal no line is wider than it. Where it is narrow, columns in which nothing stands are left out
//! and times are shortened; then columns that may be cut are cut, with `…`; where that is not enough, each row becomes
//! a block of lines, and nothing is lost. On a pipe nothing is cut.

use crate::look::{Look, mood_of};
use console::{measure_text_width, truncate_str};

/// Between two columns.
const GAP: usize = 2;
/// What a column is cut to at the least.
const CUT_MIN: usize = 8;

/// A cell in which nothing stands.
const NOTHING: &str = "-";

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something to copy, or short: never cut.
    Whole,
    /// Text that may be cut.
    Text,
    /// A status word, in its colour.
    Status,
    /// A time in RFC 3339; where it is narrow, to the minute and without the year.
    Time,
}

/// A column's title and what it holds.
pub(crate) type Column<'a> = (&'a str, Kind);

/// Rows under titles, as wide as their widest cells, or narrower to fit.
pub(crate) fn table(columns: &[Column<'_>], rows: &[Vec<String>], look: Look) -> String {
    let widths = widths_of(columns, rows);
    let Some(room) = look.width.filter(|room| total(&widths) > *room) else {
        return shown(columns, rows, &widths, look);
    };
    let (columns, rows) = (without_empty(columns, rows), shortened(columns, rows));
    let mut widths = widths_of(&columns, &rows);
    if squeeze(&columns, &mut widths, room) {
        shown(&columns, &rows, &widths, look)
    } else {
        blocks(&columns, &rows, look)
    }
}

fn shown(columns: &[Column<'_>], rows: &[Vec<String>], widths: &[usize], look: Look) -> String {
    let titles: Vec<String> = columns
        .iter()
        .map(|(title, _)| (*title).to_owned())
        .collect();
    let mut text = look.head(&line(columns, &titles, widths, Look::default()));
    text.push('\n');
    for row in rows {
        text.push_str(&line(columns, row, widths, look));
        text.push('\n');
    }
    text
}

fn widths_of(columns: &[Column<'_>], rows: &[Vec<String>]) -> Vec<usize> {
    let width = |(place, (title, _)): (usize, &Column<'_>)| {
        let cells = rows.iter().filter_map(|row| row.get(place));
        let cells = cells.map(|cell| measure_text_width(cell));
        cells.chain([measure_text_width(title)]).max().unwrap_or(0)
    };
    columns.iter().enumerate().map(width).collect()
}

fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

/// Whether a column says anything.
fn says(place: usize, rows: &[Vec<String>]) -> bool {
    let mut cells = rows.iter().filter_map(|row| row.get(place));
    cells.any(|cell| !cell.is_empty() && cell != NOTHING)
}

fn without_empty<'a>(columns: &[Column<'a>], rows: &[Vec<String>]) -> Vec<Column<'a>> {
    let kept = columns.iter().enumerate();
    kept.filter(|(place, _)| says(*place, rows))
        .map(|(_, column)| *column)
        .collect()
}

/// The cells of the columns that say anything, with short times.
fn shortened(columns: &[Column<'_>], rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let cells = |row: &Vec<String>| {
        let cells = row.iter().zip(columns).enumerate();
        cells
            .filter(|(place, _)| says(*place, rows))
            .map(|(_, (cell, (_, kind)))| match kind {
                Kind::Time => short_time(cell),
                Kind::Whole | Kind::Text | Kind::Status => cell.clone(),
            })
            .collect()
    };
    rows.iter().map(cells).collect()
}

/// `2026-11-22T10:00:05Z` as `11-22 10:00Z`; anything else as it is.
fn short_time(cell: &str) -> String {
    match (cell.get(5..10), cell.get(11..16), cell.len() == 20) {
        (Some(day), Some(minute), true) => format!("{day} {minute}Z"),
        _ => cell.to_owned(),
    }
}

/// Rows under titles, as wide as their widest cells, wherever they go.
pub(crate) fn plain(titles: &[&str], rows: &[Vec<String>]) -> String {
    let columns: Vec<Column<'_>> = titles.iter().map(|title| (*title, Kind::Whole)).collect();
    table(&columns, rows, Look::default())
}

/// Makes the widest columns that may be cut narrower, until the row fits; false if it cannot.
fn squeeze(columns: &[Column<'_>], widths: &mut [usize], room: usize) -> bool {
    loop {
        if total(widths) <= room {
            return true;
        }
        let cuttable = (0..widths.len())
            .filter(|place| columns[*place].1 == Kind::Text && widths[*place] > CUT_MIN);
        let Some(widest) = cuttable.max_by_key(|place| widths[*place]) else {
            return false;
        };
        widths[widest] -= 1;
    }
}

fn line(columns: &[Column<'_>], cells: &[String], widths: &[usize], look: Look) -> String {
    let mut text = String::new();
    for (place, ((cell, width), (_, kind))) in cells.iter().zip(widths).zip(columns).enumerate() {
        let shown = truncate_str(cell, *width, "…");
        let pad = width.saturating_sub(measure_text_width(&shown));
        text.push_str(&painted(&shown, *kind, look));
        if place + 1 < widths.len() {
            text.push_str(&" ".repeat(pad + GAP));
        }
    }
    text.trim_end().to_owned()
}

/// Each row as lines of title and cell.
fn blocks(columns: &[Column<'_>], rows: &[Vec<String>], look: Look) -> String {
    let blocks: Vec<String> = rows
        .iter()
        .map(|row| {
            let pairs: Vec<(String, String)> = columns
                .iter()
                .zip(row)
                .map(|((title, kind), cell)| ((*title).to_owned(), painted(cell, *kind, look)))
                .collect();
            aligned(&pairs, look)
        })
        .collect();
    blocks.join("\n")
}

fn painted(cell: &str, kind: Kind, look: Look) -> String {
    match (kind, mood_of(cell)) {
        (Kind::Status, Some(mood)) => look.paint(cell, mood),
        (Kind::Status, None) | (Kind::Whole | Kind::Text | Kind::Time, _) => cell.to_owned(),
    }
}

/// Names and values, one pair a line; a value may be as long as it is.
pub(crate) fn aligned(rows: &[(String, String)], look: Look) -> String {
    let width = rows
        .iter()
        .map(|(name, _)| measure_text_width(name))
        .max()
        .unwrap_or(0);
    rows.iter().fold(String::new(), |text, (name, value)| {
        let pad = " ".repeat(width - measure_text_width(name) + GAP);
        format!("{text}{}{pad}{value}\n", look.head(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column<'_>; 3] = [
        ("job", Kind::Whole),
        ("status", Kind::Status),
        ("note", Kind::Text),
    ];

    fn rows() -> Vec<Vec<String>> {
        let row = |id: &str, status: &str, note: &str| {
            vec![id.to_owned(), status.to_owned(), note.to_owned()]
        };
        vec![
            row(
                "job_1",
                "failed",
                "the address answers 404: is it still there?",
            ),
            row("job_22", "completed", "日本語の字幕、とても長い"),
        ]
    }

    fn look(width: usize) -> Look {
        Look {
            width: Some(width),
            color: false,
        }
    }

    #[test]
    fn on_a_pipe_nothing_is_cut() {
        let text = table(&COLUMNS, &rows(), Look::PLAIN);
        assert!(text.contains("answers 404: is it still there?"), "{text}");
        assert!(
            text.starts_with("job     status     note\njob_1   failed     the"),
            "{text}"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_id_is_cut() {
        for width in 20..90 {
            let text = table(&COLUMNS, &rows(), look(width));
            let blocks = text.starts_with("job     job_1");
            for line in text.lines().filter(|_| !blocks) {
                assert!(measure_text_width(line) <= width, "{width}: {line:?}");
            }
            assert!(text.contains("job_22"), "{text}");
        }
    }

    #[test]
    fn where_cutting_is_not_enough_rows_become_blocks() {
        let text = table(&COLUMNS, &rows(), look(20));
        assert!(
            text.starts_with("job     job_1\nstatus  failed\n"),
            "{text}"
        );
        assert!(text.contains("is it still there?"), "{text}");
    }

    #[test]
    fn first_go_empty_columns_and_the_seconds() {
        let columns = [
            ("job", Kind::Whole),
            ("created", Kind::Time),
            ("error", Kind::Text),
        ];
        let row = |error: &str| {
            ["job_1", "2026-11-22T10:00:05Z", error]
                .map(str::to_owned)
                .to_vec()
        };
        let rows = [row("-"), row("-")];
        let text = table(&columns, &rows, look(24));
        assert_eq!(
            text,
            "job    created\njob_1  11-22 10:00Z\njob_1  11-22 10:00Z\n"
        );
        let rows = [row("-"), row("item_failed")];
        let text = table(&columns, &rows, look(30));
        assert!(text.contains("job_1  11-22 10:00Z  item_fai…"), "{text}");
        let wide = table(&columns, &rows, look(100));
        assert!(wide.contains("2026-11-22T10:00:05Z"), "{wide}");
    }

    #[test]
    fn only_the_status_is_painted() {
        let loud = Look {
            color: true,
            width: None,
        };
        let text = table(&COLUMNS, &rows(), loud);
        assert!(text.contains("\u{1b}[31mfailed\u{1b}[0m"), "{text:?}");
        assert!(text.contains("job_1   "), "{text:?}");
    }
}
