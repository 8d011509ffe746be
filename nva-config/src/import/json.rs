//! JSON (RFC 8259) with the place of every value, and keys in their order: what the exports of the cloud's tools are read from.
//!
//! *Invariant:* ends in time and memory bounded by the input's length; values beyond [`NODES_MAX`] or deeper than [`DEPTH_MAX`] are refused.

use crate::report::{Place, quote};

/// The longest input: a state file of tens of thousands of resources is shorter.
const SIZE_MAX: usize = 64 << 20;
/// The cloud's own objects nest less than twenty deep.
const DEPTH_MAX: usize = 64;
/// About 200 MB of tree.
const NODES_MAX: usize = 2_000_000;

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) at: Place,
    pub(super) value: Value,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// As written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Object(Vec<Member>),
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub(super) key: String,
    pub(super) at: Place,
    pub(super) node: Node,
}

impl Value {
    /// What stands there, for a message.
    pub(super) fn found(&self) -> String {
        match self {
            Self::Null => "null stands here".to_owned(),
            Self::Bool(value) => format!("`{value}` stands here"),
            Self::Number(text) => format!("the number {} stands here", quote(text)),
            Self::Text(text) => format!("the text {} stands here", quote(text)),
            Self::List(_) => "a list stands here".to_owned(),
            Self::Object(_) => "an object stands here".to_owned(),
        }
    }
}

/// Why the input cannot be read, and where.
pub(crate) type Unreadable = (Place, String);

/// The input as text: UTF-8 with or without a byte-order mark, or UTF-16 with one, as PowerShell writes files.
pub(crate) fn decode(file: u32, bytes: &[u8]) -> Result<String, Unreadable> {
    let start = Place { file, line: 1, column: 1 };
    if bytes.len() > SIZE_MAX {
        return Err((start, format!("the file has {} bytes; at most {SIZE_MAX} are read", bytes.len())));
    }
    let wide = |big: bool, bytes: &[u8]| {
        let units = bytes.chunks(2).map(|pair| match *pair {
            [a, b] if big => u16::from_be_bytes([a, b]),
            [a, b] => u16::from_le_bytes([a, b]),
            // Half a unit is no text.
            _ => 0xd800,
        });
        char::decode_utf16(units).collect::<Result<String, _>>()
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(false, rest)
            .map_err(|_| (start, "the text is not UTF-16; save the file as UTF-8".to_owned())),
        [0xfe, 0xff, rest @ ..] => {
            wide(true, rest).map_err(|_| (start, "the text is not UTF-16; save the file as UTF-8".to_owned()))
        }
        _ => {
            let rest = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            String::from_utf8(rest.to_vec()).map_err(|error| {
                let good = rest.get(..error.utf8_error().valid_up_to()).unwrap_or_default();
                let text = String::from_utf8_lossy(good);
                let mut parser = Parser::new(file, &text);
                parser.advance(text.len());
                (parser.place(), "the text is not UTF-8; save the file as UTF-8".to_owned())
            })
        }
    }
}

/// The one value that `text` is.
pub(super) fn parse(file: u32, text: &str) -> Result<Node, Unreadable> {
    let mut parser = Parser::new(file, text);
    let node = parser.value(0)?;
    parser.blanks();
    if parser.rest.is_empty() {
        Ok(node)
    } else {
        Err(parser.refuse("something stands behind the end; keep one value"))
    }
}

struct Parser<'t> {
    file: u32,
    rest: &'t str,
    line: u32,
    column: u32,
    nodes: usize,
}

impl<'t> Parser<'t> {
    const fn new(file: u32, text: &'t str) -> Self {
        Self { file, rest: text, line: 1, column: 1, nodes: 0 }
    }

    const fn place(&self) -> Place {
        Place { file: self.file, line: self.line, column: self.column }
    }

    fn refuse(&self, message: impl std::fmt::Display) -> Unreadable {
        (self.place(), format!("this is no good JSON: {message}"))
    }

    /// Takes `len` bytes, which end between two characters.
    fn advance(&mut self, len: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        for c in taken.chars() {
            if c == '\n' {
                self.line = self.line.saturating_add(1);
                self.column = 1;
            } else {
                self.column = self.column.saturating_add(1);
            }
        }
        taken
    }

    fn blanks(&mut self) {
        let kept = self.rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
        self.advance(self.rest.len() - kept);
    }

    fn take(&mut self, word: &str) -> bool {
        let there = self.rest.starts_with(word);
        if there {
            self.advance(word.len());
        }
        there
    }

    fn value(&mut self, depth: usize) -> Result<Node, Unreadable> {
        self.blanks();
        let at = self.place();
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err((at, format!("the file has too many values; at most {NODES_MAX} are read")));
        }
        if depth > DEPTH_MAX {
            return Err((at, format!("values are nested too deep; at most {DEPTH_MAX} stand in each other")));
        }
        let value = match self.rest.bytes().next() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::Text(self.text()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ if self.take("null") => Value::Null,
            _ if self.take("true") => Value::Bool(true),
            _ if self.take("false") => Value::Bool(false),
            None => return Err(self.refuse("the file ends where a value is needed; is it whole?")),
            Some(_) => {
                return Err(self.refuse("no value starts so; write an object, a list, a text or a number"));
            }
        };
        Ok(Node { at, value })
    }

    fn object(&mut self, depth: usize) -> Result<Value, Unreadable> {
        let mut members = Vec::new();
        self.take("{");
        self.blanks();
        if self.take("}") {
            return Ok(Value::Object(members));
        }
        loop {
            self.blanks();
            let at = self.place();
            if !self.rest.starts_with('"') {
                return Err(self.refuse("a key between double quotes is needed here"));
            }
            let key = self.text()?;
            self.blanks();
            if !self.take(":") {
                return Err(self.refuse("a `:` is needed behind the key"));
            }
            let node = self.value(depth + 1)?;
            members.push(Member { key, at, node });
            self.blanks();
            if self.take("}") {
                return Ok(Value::Object(members));
            }
            if !self.take(",") {
                return Err(self.refuse("a `,` or `}` is needed here"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Unreadable> {
        let mut items = Vec::new();
        self.take("[");
        self.blanks();
        if self.take("]") {
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.blanks();
            if self.take("]") {
                return Ok(Value::List(items));
            }
            if !self.take(",") {
                return Err(self.refuse("a `,` or `]` is needed here"));
            }
        }
    }

    fn text(&mut self) -> Result<String, Unreadable> {
        self.take("\"");
        let mut text = String::new();
        loop {
            let plain =
                self.rest.find(|c: char| matches!(c, '"' | '\\') || c < ' ').unwrap_or(self.rest.len());
            text.push_str(self.advance(plain));
            match self.rest.bytes().next() {
                Some(b'"') => {
                    self.take("\"");
                    return Ok(text);
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(_) => {
                    return Err(
                        self.refuse("a control character stands in a text; escape it as \\n or \\u000a")
                    );
                }
                None => return Err(self.refuse("a text has no closing quotes; is the file whole?")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Unreadable> {
        let bad = self.refuse("this escape is none of JSON's");
        let named = match self.rest.as_bytes().get(1) {
            Some(b'u') => return self.code_point().ok_or(bad),
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(*c),
            _ => return Err(bad),
        };
        self.advance(2);
        Ok(named)
    }

    /// `\uXXXX`, or two of them that are one character.
    fn code_point(&mut self) -> Option<char> {
        let high = self.code_unit()?;
        if let Some(c) = char::from_u32(high) {
            return Some(c);
        }
        let low = self.code_unit()?;
        char::decode_utf16([u16::try_from(high).ok()?, u16::try_from(low).ok()?]).next()?.ok()
    }

    fn code_unit(&mut self) -> Option<u32> {
        let digits = self.rest.strip_prefix("\\u")?.get(..4)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let unit = u32::from_str_radix(digits, 16).ok();
        self.advance(6);
        unit
    }

    fn number(&mut self) -> Result<Value, Unreadable> {
        let len = self
            .rest
            .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
            .unwrap_or(self.rest.len());
        let text = self.rest.get(..len).unwrap_or_default();
        if !is_number(text) {
            return Err(self.refuse(format_args!("{} is no number", quote(text))));
        }
        Ok(Value::Number(self.advance(len).to_owned()))
    }
}

/// RFC 8259, section 6.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let mantissa = mantissa.strip_prefix('-').unwrap_or(mantissa);
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same value as serde_json has it, for comparison.
    fn plain(node: &Node) -> serde_json::Value {
        match &node.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(text) => serde_json::from_str(text).expect("a number"),
            Value::Text(text) => text.clone().into(),
            Value::List(items) => items.iter().map(plain).collect(),
            Value::Object(members) => {
                serde_json::Value::Object(members.iter().map(|m| (m.key.clone(), plain(&m.node))).collect())
            }
        }
    }

    fn place(text: &str) -> (u32, u32) {
        let (at, _) = parse(0, text).expect_err("no good JSON");
        (at.line, at.column)
    }

    #[test]
    fn places_are_those_of_an_editor() {
        let node = parse(3, "{\"é\": [1,\n  \"x\"]}").expect("good");
        let Value::Object(members) = &node.value else { panic!("an object") };
        let Value::List(items) = &members[0].node.value else { panic!("a list") };
        assert_eq!(members[0].at, Place { file: 3, line: 1, column: 2 });
        assert_eq!(items[0].at, Place { file: 3, line: 1, column: 8 });
        assert_eq!(items[1].at, Place { file: 3, line: 2, column: 3 });
    }

    #[test]
    fn mistakes_have_their_place() {
        assert_eq!(place(""), (1, 1));
        assert_eq!(place("{\"a\": 1,\n}"), (2, 1));
        assert_eq!(place("[1 2]"), (1, 4));
        assert_eq!(place("[1] x"), (1, 5));
        assert_eq!(place("{\"a\": nul}"), (1, 7));
        assert_eq!(place("\"a\nb\""), (1, 3));
        assert_eq!(place("[\"a"), (1, 4));
    }

    #[test]
    fn depth_has_a_limit_and_long_lists_do_not_overflow() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(parse(0, &deep(DEPTH_MAX)).is_ok());
        assert!(parse(0, &deep(DEPTH_MAX + 2)).expect_err("too deep").1.contains("nested too deep"));
        assert!(parse(0, &"[".repeat(1_000_000)).is_err());
    }

    #[test]
    fn powershell_files_are_read() {
        let text = "{\"Name\": \"ü\"}";
        let little: Vec<u8> =
            [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let big: Vec<u8> =
            [0xfe, 0xff].into_iter().chain(text.encode_utf16().flat_map(u16::to_be_bytes)).collect();
        let marked = [b"\xef\xbb\xbf", text.as_bytes()].concat();
        for bytes in [little.clone(), big, marked] {
            assert_eq!(decode(0, &bytes).as_deref(), Ok(text));
        }
        assert!(decode(0, &little[..little.len() - 1]).is_err());
        assert_eq!(
            decode(0, b"ab\n\xc3\xa9\xff").expect_err("no UTF-8").0,
            Place { file: 0, line: 2, column: 2 }
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        /// Another parser takes and refuses the same texts, and reads the same from them.
        #[test]
        fn as_serde_json(text in "[\\[\\]{}:,\"\\\\nulltrefas0-9eE+.\\- \n\u{e9}dD8]{0,24}") {
            let theirs: Result<serde_json::Value, _> = serde_json::from_str(&text);
            match (parse(0, &text), theirs) {
                (Ok(node), Ok(theirs)) => prop_assert_eq!(plain(&node), theirs),
                (Err(_), Err(_)) => {}
                // Numbers beyond a double are numbers here.
                (Ok(_), Err(error)) => prop_assert!(error.to_string().contains("number out of range"), "{text}: {error}"),
                (Err((_, message)), Ok(_)) => prop_assert!(false, "{text}: {message}"),
            }
        }

        #[test]
        fn texts_come_back(text in any::<String>()) {
            let written = serde_json::to_string(&text).expect("a text");
            prop_assert_eq!(parse(0, &written).map(|node| node.value), Ok(Value::Text(text)));
        }
    }
}
