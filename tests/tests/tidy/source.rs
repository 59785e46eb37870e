//! One Rust file as the rules see it: its tokens with their lines, its functions, its tests.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};

pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    /// Everything but comments and documentation, groups opened up.
    pub(crate) tokens: Vec<Token>,
    pub(crate) functions: Vec<Function>,
    /// The lines of each `#[cfg(test)]` item and each `#[test]`.
    test_items: Vec<Lines>,
}

pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) lines: Lines,
}

pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) lines: Lines,
}

pub(crate) type Lines = RangeInclusive<usize>;

impl Source {
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let mut source = Self {
            path: path.to_owned(),
            text: text.to_owned(),
            tokens: Vec::new(),
            functions: Vec::new(),
            test_items: Vec::new(),
        };
        match text.parse() {
            Ok(stream) => source.read(stream),
            Err(error) => panic!("{path} is not Rust: {error}"),
        }
        source
    }

    /// Lines that hold code: no blanks, no comments, no documentation, no tests.
    pub(crate) fn code(&self) -> BTreeSet<usize> {
        let mut lines: BTreeSet<_> =
            self.tokens.iter().flat_map(|token| token.lines.clone()).collect();
        lines.retain(|line| !self.is_test(*line));
        lines
    }

    /// All lines but those of tests.
    pub(crate) fn lines_without_tests(&self) -> usize {
        (1..=self.text.lines().count()).filter(|line| !self.is_test(*line)).count()
    }

    /// Whether a line belongs to a test, or the whole file does.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.is_test_file() || self.test_items.iter().any(|lines| lines.contains(&line))
    }

    pub(crate) fn is_test_file(&self) -> bool {
        // The bench is a program that lives beside the tests, not one of them.
        !self.path.starts_with("tests/bench/")
            && self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }

    /// First lines of the places where these tokens stand one after another.
    pub(crate) fn places<'s>(&'s self, words: &'s [&str]) -> impl Iterator<Item = usize> + 's {
        self.tokens
            .windows(words.len())
            .filter(move |window| {
                window.iter().zip(words).all(|(token, word)| token.text == **word)
            })
            .map(|window| *window[0].lines.start())
    }

    fn read(&mut self, stream: TokenStream) {
        let trees: Vec<_> = stream.into_iter().collect();
        for (at, tree) in trees.iter().enumerate() {
            let rest = &trees[at..];
            if begins_test(rest) {
                self.test_items.push(item_lines(rest));
            }
            if let Some(name) = begins_function(rest) {
                self.functions.push(Function { name, lines: item_lines(rest) });
            }
            self.read_tree(tree);
        }
    }

    fn read_tree(&mut self, tree: &TokenTree) {
        let TokenTree::Group(group) = tree else {
            return self.push(tree.to_string(), tree.span());
        };
        if is_documentation(group) {
            while self.tokens.pop_if(|token| matches!(&*token.text, "#" | "!")).is_some() {}
            return;
        }
        let (open, close) = match group.delimiter() {
            Delimiter::Parenthesis => ("(", ")"),
            Delimiter::Brace => ("{", "}"),
            Delimiter::Bracket => ("[", "]"),
            Delimiter::None => ("", ""),
        };
        self.push(open.to_owned(), group.span_open());
        self.read(group.stream());
        self.push(close.to_owned(), group.span_close());
    }

    fn push(&mut self, text: String, span: Span) {
        self.tokens.push(Token { text, lines: span.start().line..=span.end().line });
    }
}

/// `/// text` reaches us as `#[doc = "text"]`.
fn is_documentation(group: &proc_macro2::Group) -> bool {
    group.delimiter() == Delimiter::Bracket && attribute(group).starts_with("doc=")
}

fn begins_test(trees: &[TokenTree]) -> bool {
    let [TokenTree::Punct(hash), TokenTree::Group(group), ..] = trees else { return false };
    let name = attribute(group);
    hash.as_char() == '#'
        && (name == "test" || name == "cfg(test)" || name.starts_with("cfg(all(test"))
}

fn attribute(group: &proc_macro2::Group) -> String {
    group.stream().to_string().split_whitespace().collect()
}

/// `fn` with a name behind it; the type `fn(..)` has none.
fn begins_function(trees: &[TokenTree]) -> Option<String> {
    match trees {
        [TokenTree::Ident(keyword), TokenTree::Ident(name), ..] if keyword == "fn" => {
            Some(name.to_string())
        }
        _ => None,
    }
}

/// An item ends with its first block, or at a semicolon if it has none.
fn item_lines(trees: &[TokenTree]) -> Lines {
    let is_end = |tree: &&TokenTree| match tree {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    };
    let last = trees.iter().find(is_end).or_else(|| trees.last());
    let start = trees[0].span().start().line;
    start..=last.map_or(start, |tree| tree.span().end().line)
}
