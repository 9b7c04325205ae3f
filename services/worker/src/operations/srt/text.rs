//! Bytes to text.
//!
//! Guarantee: whatever the encoding, what comes out has no NUL and only `\n` as line end.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::SrtError;

/// A file with so many characters beyond ASCII for each broken one is UTF-8 that was damaged.
const GOOD_PER_BROKEN_MIN: usize = 10;
/// With more bytes beyond ASCII than this, letters tell one language from another.
const FEW_BYTES_MAX: usize = 40;
/// Accented letters that follow each other in a word of Western Europe: `ação`.
const ACCENTED_MAX: usize = 2;
/// What Portuguese, Spanish, French, Italian and German have beyond ASCII. Of the letters of Polish,
/// Turkish and others some are not in it, when they are misread as Windows-1252: `ł`, `ż`, `ş`, `ı`.
const WESTERN: &str = "ÀÁÂÃÄÇÈÉÊËÌÍÏÑÒÓÔÕÖÙÚÜàáâãäçèéêëìíïñòóôõöùúüß¡«»“”‘’–—…€•°";

/// The text of a caption file.
pub(super) fn of(bytes: &[u8]) -> Result<String, SrtError> {
    let text = decoded(bytes);
    // Some programs fill a file up.
    let text = text.trim_end_matches('\0');
    if text.contains('\0') {
        return Err(SrtError::NotText);
    }
    // `\r\r\n` is what is left of a file that was converted twice.
    let text = text.replace("\r\r\n", "\n").replace("\r\n", "\n");
    Ok(text.replace(
        ['\r', '\u{2028}', '\u{2029}', '\u{85}', '\u{b}', '\u{c}'],
        "\n",
    ))
}

fn decoded(bytes: &[u8]) -> String {
    let named = Encoding::for_bom(bytes).map(|(encoding, _)| encoding);
    if let Some(encoding) = named.or_else(|| unmarked_utf16(bytes)) {
        return encoding.decode(bytes).0.into_owned();
    }
    utf8(bytes).unwrap_or_else(|| {
        if is_western(bytes) {
            return WINDOWS_1252
                .decode_without_bom_handling(bytes)
                .0
                .into_owned();
        }
        // What browsers use for pages that do not say: it knows letters that go together. A few
        // words can be misjudged, a whole file hardly ever.
        let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
        detector.feed(bytes, true);
        let guess = detector.guess(None, Utf8Detection::Deny);
        guess.decode_without_bom_handling(bytes).0.into_owned()
    })
}

/// UTF-16 without a mark: the arrow of a time line is in every file of captions.
fn unmarked_utf16(bytes: &[u8]) -> Option<&'static Encoding> {
    let has = |arrow: &[u8; 6]| {
        let (pairs, _) = bytes.as_chunks::<2>();
        pairs.windows(3).any(|three| three.as_flattened() == arrow)
    };
    let (little, big) = (b"-\0-\0>\0", b"\0-\0-\0>");
    if has(little) {
        return Some(UTF_16LE);
    }
    has(big).then_some(UTF_16BE)
}

/// True for a few words that are likely Windows-1252, of which the detector makes Polish (`vocę`) or
/// Chinese (`？ola!`).
fn is_western(bytes: &[u8]) -> bool {
    if bytes.iter().filter(|byte| !byte.is_ascii()).count() > FEW_BYTES_MAX {
        return false;
    }
    let text = WINDOWS_1252.decode_without_bom_handling(bytes).0;
    let mut accented = 0;
    text.chars().all(|c| {
        let letter = !c.is_ascii() && c.is_alphabetic();
        accented = if letter { accented + 1 } else { 0 };
        accented <= ACCENTED_MAX && (c.is_ascii() || WESTERN.contains(c))
    })
}

/// The text if it is UTF-8, or was before a few of its bytes were lost.
fn utf8(bytes: &[u8]) -> Option<String> {
    let (mut text, mut good, mut broken) = (String::new(), 0, 0);
    for chunk in bytes.utf8_chunks() {
        good += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        broken += usize::from(!chunk.invalid().is_empty());
        text.push_str(chunk.valid());
    }
    (good >= broken * GOOD_PER_BROKEN_MIN).then_some(text)
}
