//! The mistakes that everybody makes once in a handler: what the compiler says to each names it.
//!
//! After a change to the texts, or to the compiler, look at what `TRYBUILD=overwrite cargo test -p
//! pitaya-tests --test mistakes` writes before you keep it.

use std::fs;
use std::path::Path;

#[test]
fn the_compiler_names_what_is_wrong_with_a_handler() {
    trybuild::TestCases::new().compile_fail("tests/mistakes/*.rs");
}

/// The stored text is compared as a whole above; this is what it is there for.
#[test]
fn each_stored_message_says_at_its_beginning_who_is_wrong() {
    for (mistake, culprit) in MISTAKES {
        let path = Path::new(FOLDER).join(mistake).with_extension("stderr");
        let message = fs::read_to_string(&path).expect("one is stored for each mistake");
        let mut first = message.lines().take(LINES_READ);
        assert!(first.any(|line| line.contains(culprit)), "{mistake}: {message}");
    }
    let files = fs::read_dir(FOLDER).expect("the folder of the mistakes");
    assert_eq!(files.count(), 2 * MISTAKES.len(), "a mistake is not in the list");
}

/// Each with what its message has to name before one stops reading.
const MISTAKES: [(&str, &str); 5] = [
    ("argument_that_is_no_extractor", "`bool` cannot be an argument of a handler"),
    ("not_async", "{count}` is not a handler"),
    ("rc_across_an_await", "the trait `Send` is not implemented for `Rc<u32>`"),
    ("reply_that_is_no_result", "`u32` is not the result of a request's handler"),
    ("reply_without_serialize", "`Scores: serde::Serialize` is not satisfied"),
];

const LINES_READ: usize = 8;
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mistakes");
