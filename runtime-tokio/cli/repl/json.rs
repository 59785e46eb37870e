//! JSON from a server as people read it, and text that may be anything.

use serde::de::IgnoredAny;

/// The same JSON over several lines, its keys and numbers as they came; nothing if it is none.
pub(crate) fn pretty(json: &str) -> Option<String> {
    serde_json::from_str::<IgnoredAny>(json).ok()?;
    let mut out = String::new();
    let (mut depth, mut in_text, mut after_backslash) = (0_usize, false, false);
    let mut letters = json.chars().peekable();
    while let Some(letter) = letters.next() {
        if in_text {
            push_shown(&mut out, letter);
            in_text = letter != '"' || after_backslash;
            after_backslash = letter == '\\' && !after_backslash;
            continue;
        }
        match letter {
            blank if blank.is_ascii_whitespace() => {}
            '{' | '[' => {
                out.push(letter);
                while letters.next_if(char::is_ascii_whitespace).is_some() {}
                match letters.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => out.push(end),
                    None => {
                        depth += 1;
                        indent(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                indent(&mut out, depth);
                out.push(letter);
            }
            ',' => {
                out.push(letter);
                indent(&mut out, depth);
            }
            ':' => out.push_str(": "),
            other => {
                in_text = other == '"';
                out.push(other);
            }
        }
    }
    Some(out)
}

/// The text without what would move the cursor or change the colours of a terminal.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|letter| push_shown(&mut out, letter));
    out
}

fn push_shown(out: &mut String, letter: char) {
    if letter.is_control() && letter != '\t' {
        out.extend(letter.escape_default());
    } else {
        out.push(letter);
    }
}

fn indent(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_numbers_stay_as_they_came() {
        let json = r#"{"z":1.50,"a":[],"l":[ 1,{ } , "x, \"{y}\\" ],"n":12345678901234567890123}"#;
        let expected = r#"{
  "z": 1.50,
  "a": [],
  "l": [
    1,
    {},
    "x, \"{y}\\"
  ],
  "n": 12345678901234567890123
}"#;
        assert_eq!(pretty(json).as_deref(), Some(expected));
    }

    #[test]
    fn what_is_pretty_means_the_same() {
        for json in ["null", "\"a b\"", "[[[]]]", "[\n1,\t2]", r#"{"a":{"b":"\\"},"c":" : , "}"#] {
            let value: serde_json::Value = serde_json::from_str(json).unwrap();
            let pretty = pretty(json).unwrap();
            assert_eq!(serde_json::from_str::<serde_json::Value>(&pretty).unwrap(), value);
        }
    }

    #[test]
    fn what_is_no_json_is_not_made_pretty() {
        assert_eq!(pretty("{"), None);
        assert_eq!(pretty(""), None);
    }

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        assert_eq!(escaped("a\u{1b}[2Jb\nc"), r"a\u{1b}[2Jb\nc");
        assert_eq!(pretty("\"\u{9b}2J\u{7f}\"").as_deref(), Some(r#""\u{9b}2J\u{7f}""#));
    }
}
