//! What an item's address asks of the stand-in.

use std::time::Duration;

use url::Url;

/// The query of an address, read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wishes {
    /// Bytes of the output.
    pub bytes: Option<u64>,
    /// How long making it takes.
    pub takes: Option<Duration>,
    /// It waits for the file `open`.
    pub held: bool,
    /// So many makings kill the process.
    pub crashes: u32,
    /// So many makings fail.
    pub failures: u32,
    /// It fails for good.
    pub refused: bool,
}

impl Wishes {
    /// Those of an address; what cannot be read is not wished.
    pub fn of(url: &str) -> Self {
        let mut wishes = Self::default();
        let Ok(url) = Url::parse(url) else {
            return wishes;
        };
        for (name, value) in url.query_pairs() {
            match &*name {
                "bytes" => wishes.bytes = value.parse().ok(),
                "ms" => wishes.takes = value.parse().ok().map(Duration::from_millis),
                "held" => wishes.held = true,
                "crash" => wishes.crashes = value.parse().unwrap_or(0),
                "fail" => wishes.failures = value.parse().unwrap_or(0),
                "refuse" => wishes.refused = true,
                _ => {}
            }
        }
        wishes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let wishes = Wishes::of("http://pictures.example/a.jpg?bytes=5000&ms=20&held&crash=2");
        let read = Wishes {
            bytes: Some(5000),
            takes: Some(Duration::from_millis(20)),
            held: true,
            crashes: 2,
            ..Wishes::default()
        };
        assert_eq!(wishes, read);
        assert_eq!(
            Wishes::of("http://pictures.example/a?bytes=x"),
            Wishes::default()
        );
        let refused = Wishes::of("http://pictures.example/a?refuse&fail=1");
        assert!(refused.refused && refused.failures == 1);
    }
}
