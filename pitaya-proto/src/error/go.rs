//! Go's ways of writing: JSON that is safe inside HTML, and durations.

use std::io;
use std::time::Duration;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// A duration as Go prints it, such as `5s`, `1.5s`, `500ms` or `1h0m0s`.
pub fn duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (minutes, seconds) = (nanos / MINUTE, decimal(nanos % MINUTE, SECOND));
    match nanos {
        0 => "0s".to_owned(),
        1..MICROSECOND => format!("{nanos}ns"),
        MICROSECOND..MILLISECOND => decimal(nanos, MICROSECOND) + "\u{b5}s",
        MILLISECOND..SECOND => decimal(nanos, MILLISECOND) + "ms",
        SECOND..MINUTE => seconds + "s",
        MINUTE..HOUR => format!("{minutes}m{seconds}s"),
        HOUR.. => format!("{}h{}m{seconds}s", minutes / 60, minutes % 60),
    }
}

pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    let written = value.serialize(&mut Serializer::with_formatter(&mut out, HtmlSafe));
    written.expect("text always serialises into memory");
    out
}

/// Escapes what could end a script inside HTML.
struct HtmlSafe;

impl Formatter for HtmlSafe {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self, writer: &mut W, fragment: &str,
    ) -> io::Result<()> {
        for piece in fragment.split_inclusive(UNSAFE) {
            let safe = piece.trim_end_matches(UNSAFE);
            writer.write_all(safe.as_bytes())?;
            for unsafe_char in piece.chars().skip(safe.chars().count()) {
                write!(writer, "\\u{:04x}", u32::from(unsafe_char))?;
            }
        }
        Ok(())
    }
}

fn decimal(nanos: u128, unit: u128) -> String {
    let digits = unit.ilog10() as usize;
    let text = format!("{}.{:0digits$}", nanos / unit, nanos % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

const UNSAFE: [char; 5] = ['<', '>', '&', '\u{2028}', '\u{2029}'];

const MICROSECOND: u128 = 1_000;
const MILLISECOND: u128 = 1_000 * MICROSECOND;
const SECOND: u128 = 1_000 * MILLISECOND;
const MINUTE: u128 = 60 * SECOND;
const HOUR: u128 = 60 * MINUTE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (2_200_000, "2.2ms"),
            (500_000_000, "500ms"),
            (1_500_000_000, "1.5s"),
            (5_000_000_000, "5s"),
            (10_000_000_000, "10s"),
            (60_000_000_000, "1m0s"),
            (90_001_000_000, "1m30.001s"),
            (3_600_000_000_000, "1h0m0s"),
            (36_610_000_000_001, "10h10m10.000000001s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn json_is_safe_inside_html() {
        let out = json(&"a<b>&\u{2028}\u{2029}\"\\\n\u{1}\u{e9}<");
        let expected = r#""a\u003cb\u003e\u0026\u2028\u2029\"\\\n\u0001é\u003c""#;
        assert_eq!(str::from_utf8(&out), Ok(expected));
    }
}
