//! Byte ranges in headers: `Content-Range` of an upload, `Range` of a download.
//!
//! The two have little in common. The OCI distribution spec ("Pushing a blob in chunks") writes the
//! range of an uploaded chunk as `0-499`, without the unit that RFC 9110 demands; a download
//! follows RFC 9110, section 14. An upload range that is not understood is an error, because bytes
//! would land in the wrong place; a download range that is not understood is ignored, as the RFC
//! says.
//!
//! What a newcomer gets wrong: the ends of header ranges are inclusive, those of a Rust `Range` are
//! not.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use thiserror::Error;

/// The text is not the range of an uploaded chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[error(
    "the Content-Range of a chunk has the form <start>-<end>, both inclusive, for example 0-499"
)]
pub struct UploadRangeError;

/// Which bytes of the blob a chunk holds, both ends inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UploadRange {
    /// Offset of the first byte.
    pub start: u64,
    /// Offset of the last byte.
    pub end: u64,
}

impl UploadRange {
    /// How many bytes the range has, at least 1.
    #[expect(
        clippy::len_without_is_empty,
        reason = "an inclusive range is never empty"
    )]
    pub fn len(&self) -> u64 {
        // Parsed ranges cannot overflow; one that was put together by hand must not panic either.
        self.end.saturating_sub(self.start).saturating_add(1)
    }
}

impl FromStr for UploadRange {
    type Err = UploadRangeError;

    /// Takes `0-499` (OCI), and `bytes 0-499/1000` and `bytes 0-499/*` (RFC 9110, section 14.4),
    /// which some clients send.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = trim_whitespace(text);
        let (range, total) = match text.split_once(' ') {
            Some((unit, rest)) if unit.eq_ignore_ascii_case("bytes") => {
                rest.split_once('/').ok_or(UploadRangeError)?
            }
            Some(_) => return Err(UploadRangeError),
            None => (text, "*"),
        };
        let (start, end) = range.split_once('-').ok_or(UploadRangeError)?;
        let (start, end) = (offset(start)?, offset(end)?);
        if start > end {
            return Err(UploadRangeError);
        }
        // The size lies beyond the last offset, so it may be one more than an offset can be.
        if total != "*" && saturating_number(total).is_none_or(|size| size <= end) {
            return Err(UploadRangeError);
        }
        Ok(Self { start, end })
    }
}

impl fmt::Display for UploadRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

/// An offset in an upload. Sizes are stored as signed 64-bit integers, so nothing beyond
/// can be meant seriously; the bound also keeps `end + 1` from overflowing.
fn offset(digits: &str) -> Result<u64, UploadRangeError> {
    match saturating_number(digits) {
        Some(number) if number < i64::MAX as u64 => Ok(number),
        _ => Err(UploadRangeError),
    }
}

/// What to send in answer to a `Range` header.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RequestedRange {
    /// Everything, with 200.
    Whole,
    /// These bytes, with 206. The range is never empty and lies within the content.
    Partial(Range<u64>),
    /// Nothing: 416, with the size in `Content-Range`.
    Unsatisfiable,
}

/// Reads the `Range` header of a request for content of `size` bytes (RFC 9110, section 14.2).
///
/// A server may ignore `Range`, and must ignore one that it cannot parse. So
/// [`RequestedRange::Whole`] is the answer to a malformed header, another unit, and a list of
/// several ranges: no client of a registry asks for a multipart answer, and sending one is a
/// well-known way to overload a server.
pub fn requested_range(header: Option<&str>, size: u64) -> RequestedRange {
    header
        .and_then(|text| single_range(text, size))
        .unwrap_or(RequestedRange::Whole)
}

/// `None` when the header must or may be ignored.
fn single_range(header: &str, size: u64) -> Option<RequestedRange> {
    let (unit, range) = trim_whitespace(header).split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    // A list of ranges fails below: no number has a comma.
    let (first, last) = trim_whitespace(range).split_once('-')?;
    if first.is_empty() {
        let length = saturating_number(last)?;
        return match (length, size) {
            (0, _) => Some(RequestedRange::Unsatisfiable),
            // "Satisfiable" by section 14.1.2, but no Content-Range can describe an empty part.
            (_, 0) => None,
            _ => Some(RequestedRange::Partial(size.saturating_sub(length)..size)),
        };
    }
    let first = saturating_number(first)?;
    let last = if last.is_empty() {
        u64::MAX
    } else {
        saturating_number(last)?
    };
    // RFC 9110, section 14.1.1 calls `last < first` invalid, to be ignored; the OCI conformance suite
    // wants 416, and so the client learns of its mistake.
    if last < first || first >= size {
        return Some(RequestedRange::Unsatisfiable);
    }
    Some(RequestedRange::Partial(
        first..last.saturating_add(1).min(size),
    ))
}

/// The `Content-Range` of a 206 (RFC 9110, section 14.4). The range must not be empty.
pub fn content_range(range: &Range<u64>, size: u64) -> String {
    format!(
        "bytes {}-{}/{size}",
        range.start,
        range.end.saturating_sub(1)
    )
}

/// The `Content-Range` of a 416 (RFC 9110, section 14.4).
pub fn unsatisfied_content_range(size: u64) -> String {
    format!("bytes */{size}")
}

/// `1*DIGIT`; a number that is too large becomes the largest there is. `None` if it is no number,
/// and so for a sign, which `u64::from_str` would take.
fn saturating_number(digits: &str) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.bytes().try_fold(0u64, |number, byte| match byte {
        b'0'..=b'9' => Some(
            number
                .saturating_mul(10)
                .saturating_add(u64::from(byte - b'0')),
        ),
        _ => None,
    })
}

/// Removes what HTTP calls optional whitespace (RFC 9110, section 5.6.3).
fn trim_whitespace(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upload_ranges() {
        let good = [
            ("0-0", 0, 0, 1),
            ("0-499", 0, 499, 500),
            (" 500-999\t", 500, 999, 500),
            ("00-01", 0, 1, 2),
            ("bytes 0-499/*", 0, 499, 500),
            ("Bytes 0-499/1000", 0, 499, 500),
            ("bytes 0-499/500", 0, 499, 500),
            (
                "bytes 5-9223372036854775806/9223372036854775807",
                5,
                i64::MAX as u64 - 1,
                i64::MAX as u64 - 5,
            ),
            (
                "0-9223372036854775806",
                0,
                i64::MAX as u64 - 1,
                i64::MAX as u64,
            ),
        ];
        for (text, start, end, len) in good {
            let range: UploadRange = text.parse().unwrap();
            assert_eq!(
                (range.start, range.end, range.len()),
                (start, end, len),
                "{text:?}"
            );
            assert_eq!(range.to_string().parse(), Ok(range));
        }
        let bad = [
            "",
            "-",
            "0",
            "0-",
            "-0",
            "-499",
            "1-0",
            "a-b",
            "0-b",
            "+0-+1",
            "0 - 1",
            "0--1",
            "0-1-2",
            "0x0-1",
            "0-1,2-3",
            "bytes=0-499",
            "bytes 0-499",
            "bytes 0-499/",
            "bytes 0-499/499",
            "bytes 0-499/a",
            "bytes  0-499/*",
            "bytes */500",
            "octets 0-1/*",
            "0-499/*",
            "0-9223372036854775807",
            "0-18446744073709551615",
            "0-18446744073709551616",
            "0-99999999999999999999999999",
            "18446744073709551616-18446744073709551617",
            "\u{661}-\u{662}",
        ];
        for text in bad {
            assert_eq!(
                text.parse::<UploadRange>(),
                Err(UploadRangeError),
                "{text:?}"
            );
        }
    }

    #[test]
    fn length_cannot_overflow() {
        assert_eq!(
            UploadRange {
                start: 0,
                end: u64::MAX
            }
            .len(),
            u64::MAX
        );
        assert_eq!(UploadRange { start: 5, end: 3 }.len(), 1);
    }

    #[test]
    fn download_ranges() {
        use RequestedRange::{Partial, Unsatisfiable, Whole};
        let table = [
            ("bytes=0-0", 10, Partial(0..1)),
            ("bytes=0-9", 10, Partial(0..10)),
            ("bytes=0-", 10, Partial(0..10)),
            ("bytes=9-", 10, Partial(9..10)),
            ("bytes=3-5", 10, Partial(3..6)),
            ("bytes=3-5000", 10, Partial(3..10)),
            ("bytes=3-18446744073709551615", 10, Partial(3..10)),
            ("bytes=3-99999999999999999999999", 10, Partial(3..10)),
            ("bytes=-1", 10, Partial(9..10)),
            ("bytes=-10", 10, Partial(0..10)),
            ("bytes=-11", 10, Partial(0..10)),
            ("bytes=-99999999999999999999999", 10, Partial(0..10)),
            ("BYTES=1-2", 10, Partial(1..3)),
            (" bytes= 1-2 ", 10, Partial(1..3)),
            ("bytes=0-", u64::MAX, Partial(0..u64::MAX)),
            (
                "bytes=0-18446744073709551615",
                u64::MAX,
                Partial(0..u64::MAX),
            ),
            // Beyond the end.
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=10-10", 10, Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=18446744073709551615-", u64::MAX, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            // Empty content.
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=0-0", 0, Unsatisfiable),
            ("bytes=-0", 0, Unsatisfiable),
            ("bytes=-5", 0, Whole),
            ("nonsense", 0, Whole),
            // Ignored.
            ("", 10, Whole),
            ("bytes", 10, Whole),
            ("bytes=", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=5", 10, Whole),
            ("bytes=5-3", 10, Unsatisfiable),
            ("bytes=50-30", 10, Unsatisfiable),
            ("bytes=a-b", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=1--2", 10, Whole),
            ("bytes=--2", 10, Whole),
            ("bytes=1 - 2", 10, Whole),
            ("bytes=0-1,3-4", 10, Whole),
            ("bytes=0-1,", 10, Whole),
            ("bytes=,0-1", 10, Whole),
            ("items=0-1", 10, Whole),
            ("bytes 0-1", 10, Whole),
            ("bytes=\u{661}-", 10, Whole),
        ];
        for (header, size, expected) in table {
            assert_eq!(
                requested_range(Some(header), size),
                expected,
                "{header:?} of {size}"
            );
        }
        assert_eq!(requested_range(None, 10), Whole);
        assert_eq!(requested_range(None, 0), Whole);
    }

    #[test]
    fn content_range_is_inclusive() {
        assert_eq!(content_range(&(0..500), 1000), "bytes 0-499/1000");
        assert_eq!(content_range(&(9..10), 10), "bytes 9-9/10");
        assert_eq!(unsatisfied_content_range(10), "bytes */10");
    }
}
