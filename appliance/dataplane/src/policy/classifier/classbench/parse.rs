//! ClassBench's text form, read.
//!
//! A rule is a line `@SRC/len DST/len lo : hi lo : hi 0xPP/0xMM 0xFFFF/0xFFFF`, the first that matches decides; the TCP flags at the
//! end, and whatever follows, are ignored. A header of a trace is `src dst sport dport proto flags first_match` in decimal, -1 for no match; the
//! flags may be missing. Fields are apart by any blanks, addresses may be in text form and of either family, empty lines and lines that begin with `#`
//! do not count.

use super::Sets;
use crate::addr::Addr;
use crate::policy::classifier::{Pattern, Ports, Protocols};
use crate::wire::FlowKey;
use core::fmt;
use nva_config::{PortRange, Prefix};
use std::net::IpAddr;

/// What a line has that it should not, or the other way round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The character in it, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.what)
    }
}

/// A header of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The line that it is on, from 1.
    pub line: usize,
    /// The packet.
    pub key: FlowKey,
    /// The place of the rule that decides, as the trace says.
    pub place: Option<u32>,
}

/// Reads a filter set.
///
/// # Errors
/// Every line that is not a rule.
pub fn parse_rules(text: &str) -> Result<Vec<Pattern>, Vec<Problem>> {
    let mut sets = Sets::default();
    each_line(text, |line, _| rule(line, &mut sets))
}

/// Reads a trace for a set of so many rules.
///
/// # Errors
/// Every line that is not a header, or whose answer is none of the rules.
pub fn parse_trace(text: &str, rules: usize) -> Result<Vec<Header>, Vec<Problem>> {
    each_line(text, |line, number| header(line, number, rules))
}

type Parsed<T> = Result<T, (usize, String)>;

fn each_line<T>(
    text: &str,
    mut parse: impl FnMut(&mut Line<'_>, usize) -> Parsed<T>,
) -> Result<Vec<T>, Vec<Problem>> {
    let (mut list, mut problems) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        match parse(&mut Line { text: line, at: 0 }, number) {
            Ok(parsed) => list.push(parsed),
            Err((at, what)) => {
                let before = line.get(..at).unwrap_or(line);
                problems.push(Problem { line: number, column: before.chars().count() + 1, what });
            }
        }
    }
    if problems.is_empty() { Ok(list) } else { Err(problems) }
}

fn rule(line: &mut Line<'_>, sets: &mut Sets) -> Parsed<Pattern> {
    line.skip_blanks();
    if !line.rest().starts_with('@') {
        return Err((line.at, "a rule begins with `@`".into()));
    }
    line.at += 1;
    let from = line.at;
    let (source, destination) = (line.prefix("source")?, line.prefix("destination")?);
    if source.address().is_ipv4() != destination.address().is_ipv4() {
        return Err((from, "source and destination are not of one family".into()));
    }
    let (source_ports, destination_ports) = (line.ports("source")?, line.ports("destination")?);
    let (at, word) = line.word("a protocol, like `0x06/0xFF`")?;
    let wrong = || (at, format!("`{word}` is not a protocol like `0x06/0xFF` or `0x00/0x00`"));
    let (value, mask) = word.split_once('/').ok_or_else(wrong)?;
    let protocol = match (number(value).ok_or_else(wrong)?, number(mask).ok_or_else(wrong)?) {
        (_, 0) => Protocols::Any,
        (value, 0xff) => Protocols::One(value),
        _ => return Err((at, format!("the mask of protocol `{word}` is neither 0x00 nor 0xFF"))),
    };
    let [source, destination] = [source, destination].map(|prefix| sets.get(prefix));
    Ok(Pattern { protocol, source, source_ports, destination, destination_ports })
}

fn header(line: &mut Line<'_>, number: usize, rules: usize) -> Parsed<Header> {
    let (from, src) = (line.at, line.address("source")?);
    let dst = line.address("destination")?;
    if src.family() != dst.family() {
        return Err((from, "source and destination are not of one family".into()));
    }
    let (src_port, dst_port) = (line.decimal("a source port")?, line.decimal("a destination port")?);
    let protocol = line.decimal("a protocol number")?;
    let (at, mut last) = line.word("the place of the first rule that matches, or -1")?;
    let mut at = at;
    if !line.is_over() {
        if last.parse::<u64>().is_err() {
            return Err((at, format!("`{last}` is not a decimal number (TCP flags, which are ignored)")));
        }
        (at, last) = line.word("the place of the first rule that matches, or -1")?;
    }
    if !line.is_over() {
        line.skip_blanks();
        return Err((line.at, "a header has seven fields at most".into()));
    }
    let place = match last.parse::<i64>() {
        // As an unsigned number of 32 bits, -1 is this.
        Ok(-1 | 0xffff_ffff) => None,
        Ok(place) if usize::try_from(place).is_ok_and(|place| place < rules) => u32::try_from(place).ok(),
        Ok(place) => return Err((at, format!("rule {place} is none of the {rules} rules, counted from 0"))),
        Err(_) => return Err((at, format!("`{last}` is not the place of a rule, or -1"))),
    };
    Ok(Header { line: number, key: FlowKey { src, dst, src_port, dst_port, protocol }, place })
}

/// A byte in decimal, or in hexadecimal behind `0x`.
fn number(text: &str) -> Option<u8> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A line that is read from left to right.
struct Line<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Line<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn skip_blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn is_over(&self) -> bool {
        self.rest().trim().is_empty()
    }

    /// What stands up to the next blank, or up to one of `ends`; where it begins.
    fn until(&mut self, expected: &str, ends: &[char]) -> Parsed<&'a str> {
        self.skip_blanks();
        let rest = self.rest();
        let len = rest.find(|c: char| c.is_whitespace() || ends.contains(&c)).unwrap_or(rest.len());
        if len == 0 {
            let found = if rest.is_empty() { "the line ends".into() } else { format!("`{rest}` stands") };
            return Err((self.at, format!("{found} where {expected} is expected")));
        }
        self.at += len;
        Ok(rest.get(..len).unwrap_or(rest))
    }

    fn word(&mut self, expected: &str) -> Parsed<(usize, &'a str)> {
        let word = self.until(expected, &[])?;
        Ok((self.at - word.len(), word))
    }

    fn prefix(&mut self, side: &str) -> Parsed<Prefix> {
        let (at, word) = self.word(&format!("a {side} prefix, like `192.0.2.0/24`"))?;
        let wrong = || (at, format!("`{word}` is not a {side} prefix, like `192.0.2.0/24`"));
        let (address, len) = word.split_once('/').ok_or_else(wrong)?;
        let (address, len) =
            (address.parse::<IpAddr>().map_err(|_| wrong())?, len.parse().map_err(|_| wrong())?);
        Prefix::containing(address, len).map_err(|_| wrong())
    }

    fn ports(&mut self, side: &str) -> Parsed<Ports> {
        let expected = format!("a range of {side} ports, like `0 : 65535`");
        let port = |line: &mut Self| {
            let word = line.until(&expected, &[':'])?;
            let at = line.at - word.len();
            word.parse::<u16>()
                .map(|port| (at, port))
                .map_err(|_| (at, format!("`{word}` is not a {side} port")))
        };
        let (at, first) = port(self)?;
        self.skip_blanks();
        if !self.rest().starts_with(':') {
            return Err((self.at, format!("no `:` in {expected}")));
        }
        self.at += 1;
        let (_, last) = port(self)?;
        if first > last {
            return Err((at, format!("{side} ports from {first} to {last}: the first is above the last")));
        }
        Ok(Ports::new(&[PortRange { first, last }]))
    }

    fn address(&mut self, side: &str) -> Parsed<Addr> {
        let (at, word) = self.word(&format!("a {side} address"))?;
        let text = || word.parse::<IpAddr>().ok().map(Addr::from);
        let v4 = word.parse::<u32>().ok().map(|bits| Addr::v4(bits.to_be_bytes()));
        v4.or_else(text).ok_or_else(|| {
            (at, format!("`{word}` is not a {side} address: neither a number of 32 bits nor in text form"))
        })
    }

    fn decimal<T: core::str::FromStr>(&mut self, what: &str) -> Parsed<T> {
        let (at, word) = self.word(what)?;
        word.parse().map_err(|_| (at, format!("`{word}` is not {what}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "@91.89.244.16/29\t128.0.0.0/1\t0 : 65535\t1521 : 1521\t0x06/0xFF\t0x0000/0x0200\t";

    #[test]
    fn what_classbench_files_hold_is_read() {
        let expected = format!("{:?}", parse_rules(RULE).unwrap());
        for same in [
            "@91.89.244.23/29 128.1.2.3/1 0:65535 1521 :1521 0x06/0xff",
            "# comment\r\n\r\n \t\r\n@91.89.244.16/29\t128.0.0.0/1\t0 : 65535\t1521 : 1521\t6/255\t0x0000/0x0000 more\r\n",
        ] {
            assert_eq!(format!("{:?}", parse_rules(same).unwrap()), expected, "{same}");
        }
        assert_eq!(parse_rules("@::/0 fd00::1/64 1 : 2 3 : 4 0x00/0x00").unwrap().len(), 1);
        let one = parse_trace("1532560408\t3758096385\t5\t6\t17\t0\t1\n", 2).unwrap();
        assert_eq!(parse_trace("91.89.4.24 224.0.0.1 5 6 17 1", 2).unwrap(), one);
        assert_eq!((one[0].place, one[0].key.dst_port), (Some(1), 6));
        for none in ["1 2 3 4 5 0 -1", "1 2 3 4 5 -1", "1 2 3 4 5 0 4294967295"] {
            assert_eq!(parse_trace(none, 2).unwrap()[0].place, None);
        }
        assert_eq!(parse_trace("fd00::1 fd00::2 3 4 5 0 -1", 2).unwrap().len(), 1);
    }

    #[test]
    fn every_bad_line_is_named_with_its_column() {
        let problems = |problems: Vec<Problem>| -> Vec<(usize, usize)> {
            problems.iter().map(|problem| (problem.line, problem.column)).collect()
        };
        let text = [
            RULE,
            "91.89.244.16/29",
            "@91.89.244.16/33\t1.2.3.4/1",
            "@1.2.3.4/8 1.2.3.4/8 7 : 65536",
            "@1.2.3.4/8 1.2.3.4/8 7 : 6 ",
            "@1.2.3.4/8 1.2.3.4/8 7 6",
            "@1.2.3.4/8 1.2.3.4/8 6 : 7 6 : 7 0x06/0x0F",
            "@1.2.3.4/8 1.2.3.4/8 6 : 7 6 : 7 é",
            "@1.2.3.4/8 1.2.3.4/8 6 : 7 6 : 7",
            "@1.2.3.4/8 ::/8 6 : 7 6 : 7 0/0",
        ]
        .join("\n");
        let expected =
            [(2, 1), (3, 2), (4, 26), (5, 22), (6, 24), (7, 34), (8, 34), (9, 33), (10, 2)].to_vec();
        assert_eq!(problems(parse_rules(&text).unwrap_err()), expected);
        let trace = [
            "1 2 3 4 5 0 0",
            "4294967296 2 3 4 5 0 0",
            "1 2 65536 4 5 0 0",
            "1 2 3 4 256 0 0",
            "1 2 3 4 5 0 2",
            "1 2 3 4 5",
            "1 2 3 4 5 0 -2",
            "1 2 3 4 5 0 0 0",
            "1 2 3 4 5 x 0",
        ]
        .join("\n");
        let expected = [(2, 1), (3, 5), (4, 9), (5, 13), (6, 10), (7, 13), (8, 15), (9, 11)].to_vec();
        assert_eq!(problems(parse_trace(&trace, 2).unwrap_err()), expected);
    }
}
