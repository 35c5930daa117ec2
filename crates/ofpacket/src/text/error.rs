//! What can be wrong with a text.

use std::borrow::Cow;

use nom::error::{ErrorKind, ParseError as NomError};

/// A text that is not a match, an action, a list of actions or a flow.
///
/// ```
/// let error = "ip,nw_src=10.0.0.300".parse::<ofpacket::Match>().unwrap_err();
/// assert_eq!(error.to_string(), "expected an IPv4 address, not \"10.0.0.300\" (line 1, column 11)");
/// assert_eq!((error.offset, &error.found[..]), (10, "10.0.0.300"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, not {found:?} (line {line}, column {column})")]
pub struct ParseError {
    /// Where it was noticed, in bytes from the start of the text.
    pub offset: usize,
    /// The line, from 1.
    pub line: usize,
    /// The character within the line, from 1.
    pub column: usize,
    /// What stands there: the first 40 characters of it.
    pub found: String,
    /// What could have stood there.
    pub expected: Cow<'static, str>,
}

impl ParseError {
    /// A stable name for metrics and logs.
    pub fn label(&self) -> &'static str {
        "bad_text"
    }
}

/// What is left of the text where a parser gave up, and what it was looking for.
#[derive(Debug, Clone)]
pub(super) struct Fail<'a> {
    at: &'a str,
    expected: Cow<'static, str>,
}

pub(super) type Parse<'a, T> = Result<T, Fail<'a>>;

/// Characters of the text that an error quotes.
const QUOTED: usize = 40;

impl<'a> Fail<'a> {
    pub(super) fn new(at: &'a str, expected: impl Into<Cow<'static, str>>) -> Self {
        Self { at, expected: expected.into() }
    }

    /// The error, with its place in the text that was parsed, of which `at` is a part.
    pub(super) fn within(self, text: &str) -> ParseError {
        let offset = nom::Offset::offset(text, self.at).min(text.len());
        let before = text.get(..offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        ParseError {
            offset,
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            found: self.at.chars().take_while(|&c| c != '\n').take(QUOTED).collect(),
            expected: self.expected,
        }
    }
}

/// So that nom's parsers can fail: with the place; what was expected is said by who called them.
impl<'a> NomError<&'a str> for Fail<'a> {
    fn from_error_kind(at: &'a str, _: ErrorKind) -> Self {
        Self { at, expected: Cow::Borrowed("something else") }
    }

    fn append(_: &'a str, _: ErrorKind, other: Self) -> Self {
        other
    }
}

impl<'a, E> nom::error::FromExternalError<&'a str, E> for Fail<'a> {
    fn from_external_error(at: &'a str, kind: ErrorKind, _: E) -> Self {
        Self::from_error_kind(at, kind)
    }
}
