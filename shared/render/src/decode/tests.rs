use super::*;

/// The start of a file, what it is, and a word of what is said of it.
const CASES: [(&[u8], Foreign, &str); 30] = [
    (b"", Foreign::Empty, "empty"),
    (
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        Foreign::Heic,
        "HEIC photo, as iPhones",
    ),
    (
        b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic",
        Foreign::Heic,
        "save it as JPEG",
    ),
    (b"\0\0\0\x14ftypisom\0\0\0\0mp42", Foreign::Video, "video"),
    (b"\0\0\0\x20ftypisom", Foreign::Video, "video"),
    (b"\x1A\x45\xDF\xA3 webm", Foreign::Video, "video"),
    (b"\xFF\x0A jxl", Foreign::JpegXl, "JPEG XL"),
    (b"\0\0\0\x0CJXL \r\n\x87\n", Foreign::JpegXl, "JPEG XL"),
    (b"\0\0\0\x0CjP  \r\n\x87\n", Foreign::Jpeg2000, "JPEG 2000"),
    (b"II*\0\x08\0\0\0", Foreign::Tiff, "TIFF"),
    (b"MM\0*\0\0\0\x08", Foreign::Tiff, "TIFF"),
    (b"BM6\0\x0C\0", Foreign::Bmp, "BMP"),
    (b"\0\0\x01\0\x01\0", Foreign::Icon, "icon"),
    (b"8BPS\0\x01", Foreign::Psd, "Photoshop"),
    (
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        Foreign::Svg,
        "save it as PNG",
    ),
    (
        b"<?xml version='1.0'?>\n<!-- a -->\n<svg/>",
        Foreign::Svg,
        "SVG",
    ),
    (b"\xEF\xBB\xBF  <svg/>", Foreign::Svg, "SVG"),
    (b"%PDF-1.4", Foreign::Pdf, "PDF"),
    (b"\n%PDF-1.4", Foreign::Pdf, "PDF"),
    (
        b"<!DOCTYPE html><html><title>Log in</title>",
        Foreign::Html,
        "page to log in",
    ),
    (b"\r\n<HTML>", Foreign::Html, "web page"),
    (b"\xFF\xFE<\0h\0t\0m\0l\0>\0", Foreign::Html, "web page"),
    (
        b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>",
        Foreign::Message,
        "expired",
    ),
    (
        b"{\"error\": \"expired\"}",
        Foreign::Message,
        "error message",
    ),
    (b"PK\x03\x04", Foreign::Zip, "ZIP"),
    (
        b"#EXTM3U\n",
        Foreign::Unknown,
        "no JPEG, PNG, WebP, GIF or AVIF",
    ),
    (b"ffconcat version 1.0\n", Foreign::Unknown, "no JPEG"),
    (b"RIFF\0\0\0\0WAVE", Foreign::Unknown, "no JPEG"),
    (b"GIF99a", Foreign::Unknown, "no JPEG"),
    (b"\x89PNG\n", Foreign::Unknown, "no JPEG"),
];

#[test]
fn what_is_no_picture_is_named_with_what_to_do() {
    for (bytes, expected, words) in CASES {
        match decode(bytes) {
            Err(DecodeError::Foreign(found)) => assert_eq!(found, expected, "{bytes:?}"),
            other => panic!("{bytes:?}: {other:?}"),
        }
        assert!(expected.to_string().contains(words), "{expected}");
    }
}

#[test]
fn what_it_is_counts_and_not_what_it_could_be() {
    assert_eq!(Kind::of(b"\xFF\xD8\xFF\xE0"), Ok(Kind::Jpeg));
    assert_eq!(Kind::of(b"\0\0\0\x14ftypmif1\0\0\0\0avif"), Ok(Kind::Avif));
    // The brand stands behind the end of its box: it says nothing.
    assert_eq!(
        Kind::of(b"\0\0\0\x10ftypisom\0\0\0\0avif"),
        Err(Foreign::Video)
    );
    assert!(matches!(
        decode(b"\0\0\0\x14ftypavif\0\0\0\0mif1"),
        Err(DecodeError::Rare {
            kind: Kind::Avif,
            ..
        })
    ));
}

#[test]
fn an_outline_in_place_of_pixels() {
    // A header alone; the marker that begins the entropy-coded data; an end. No size: no pixels.
    let none =
        b"\xFF\xD8\xFF\xC0\0\x0B\x08\0\0\0\0\x01\x01\x11\0\xFF\xDA\0\x08\x01\x01\0\0\x3F\0\xFF\xD9";
    assert!(matches!(decode(none), Err(DecodeError::Damaged { .. })));
    let rare = |coding: u8, precision: u8, components: u8| {
        let mut bytes = none.to_vec();
        bytes[3] = coding;
        bytes[6] = precision;
        bytes[7..11].copy_from_slice(&[0, 8, 0, 8]);
        bytes[11] = components;
        decode(&bytes)
    };
    for (coding, precision, components) in [(0xC9, 8, 1), (0xC3, 8, 1), (0xC1, 12, 1), (0xC0, 8, 2)]
    {
        let refused = rare(coding, precision, components);
        assert!(
            matches!(
                refused,
                Err(DecodeError::Rare {
                    kind: Kind::Jpeg,
                    ..
                })
            ),
            "{refused:?}"
        );
    }
}
