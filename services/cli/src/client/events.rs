//! Server-sent events of one job, as they come.

use crate::client::Client;
use crate::error::CliError;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use std::collections::VecDeque;

/// The longest event that is read: a job of a thousand rows is a tenth of it.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its sequence: where to resume.
    pub(crate) id: String,
    /// The webhook's body.
    pub(crate) data: String,
}

/// A stream of them that is open.
pub(crate) struct Events {
    bytes: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    parser: Parser,
    ready: VecDeque<Event>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Opens the stream after the event `last`; none where the service has no events of jobs.
    pub(crate) async fn open(
        client: &Client,
        job: &str,
        last: Option<&str>,
    ) -> Result<Option<Self>, CliError> {
        let answer = client.stream(&["jobs", job, "events"], last).await?;
        let kind = answer.headers().get("content-type");
        let kind = kind
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if !answer.status().is_success() || !kind.starts_with("text/event-stream") {
            return Ok(None);
        }
        let bytes = answer.bytes_stream();
        Ok(Some(Self {
            bytes: bytes.map(|chunk| Ok(chunk?.to_vec())).boxed(),
            parser: Parser::default(),
            ready: VecDeque::new(),
        }))
    }

    /// The next event; none at the end of the stream, however it ended.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let chunk = self.bytes.next().await?.ok()?;
            self.ready.extend(self.parser.feed(&chunk)?);
        }
    }
}

/// The format of the HTML standard, as far as the service writes it.
#[derive(Debug, Default)]
struct Parser {
    left: Vec<u8>,
    id: String,
    data: String,
}

impl Parser {
    /// The events that these bytes complete; none if they are no such stream.
    fn feed(&mut self, bytes: &[u8]) -> Option<Vec<Event>> {
        self.left.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = self.left.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.left.drain(..=end).collect();
            let line = String::from_utf8(line).ok()?;
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                let data = std::mem::take(&mut self.data);
                if !data.is_empty() {
                    let id = self.id.clone();
                    events.push(Event { id, data });
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => value.clone_into(&mut self.id),
                "data" if self.data.is_empty() => value.clone_into(&mut self.data),
                "data" => self.data = format!("{}\n{value}", self.data),
                // A comment keeps the connection alive; the type stands in the data, too.
                _ => {}
            }
        }
        (self.left.len() + self.data.len() <= EVENT_BYTES_MAX).then_some(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": hello\n\nid: 3\nevent: job.started\ndata: {\"a\": 1}\n\n:\n\nid: 7\r\n\
                          data: {\r\ndata: }\r\n\r\nid: 9\ndata: cut";

    #[test]
    fn events_are_read_in_whatever_pieces_they_come() {
        let wanted = [("3", "{\"a\": 1}"), ("7", "{\n}")];
        for piece in 1..STREAM.len() {
            let (mut parser, mut events) = (Parser::default(), Vec::new());
            for chunk in STREAM.as_bytes().chunks(piece) {
                events.extend(parser.feed(chunk).unwrap());
            }
            let read: Vec<(&str, &str)> = events
                .iter()
                .map(|event| (event.id.as_str(), event.data.as_str()))
                .collect();
            assert_eq!(read, wanted, "in pieces of {piece}");
        }
    }

    #[test]
    fn an_endless_line_ends_the_stream() {
        let mut parser = Parser::default();
        let chunk = vec![b'x'; EVENT_BYTES_MAX];
        assert!(parser.feed(&chunk).is_some());
        assert!(parser.feed(b"x").is_none());
    }
}
