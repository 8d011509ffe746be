//! Single values: words, numbers, times, addresses. Each reader reports what is wrong and gives `None`.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::{HostProtocol, HostService, MacAddress, PortRange, Prefix, Word, parse_address_and_len};
use crate::report::{Report, list, nearest, quote};
use crate::tree::{Node, Value};

/// Characters of a name, as for the cloud's objects.
const NAME_MAX: usize = 80;
/// Characters of other texts.
const TEXT_MAX: usize = 1024;

/// The text of a scalar, quoted or not.
fn scalar<'n>(node: &'n Node, what: &str, report: &mut Report<'_>) -> Option<&'n str> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text),
        Value::Bad => None,
        other => {
            report.problem(node.at, format!("{}; {what} is needed", other.found()));
            None
        }
    }
}

/// The text of a scalar that must stand without quotes.
fn plain<'n>(node: &'n Node, what: &str, report: &mut Report<'_>) -> Option<&'n str> {
    let text = scalar(node, what, report)?;
    if let Value::Scalar { plain: false, .. } = node.value {
        report.problem(node.at, format!("{} is a text; {what} stands without quotes", quote(text)));
        return None;
    }
    Some(text)
}

/// Reports that `text` is not what is needed here.
fn refuse<T>(node: &Node, text: &str, message: impl Display, report: &mut Report<'_>) -> Option<T> {
    report.problem(node.at, format!("{} {message}", quote(text)));
    None
}

/// Any text of fair length on one line, not empty.
pub(super) fn text(node: &Node, report: &mut Report<'_>) -> Option<String> {
    let text = scalar(node, "a text", report)?;
    if text.is_empty() {
        return refuse(node, text, "is empty; write at least one character", report);
    }
    if text.len() > TEXT_MAX {
        return refuse(node, text, format_args!("is too long; at most {TEXT_MAX} bytes are taken"), report);
    }
    if text.chars().any(char::is_control) {
        return refuse(node, text, "has a control character in it; write printable text", report);
    }
    Some(text.to_owned())
}

/// A name of something.
pub(super) fn name(node: &Node, report: &mut Report<'_>) -> Option<String> {
    let text = scalar(node, "a name", report)?;
    match name_mistake(text) {
        None => Some(text.to_owned()),
        Some(mistake) => refuse(node, text, mistake, report),
    }
}

/// What keeps `text` from being a name.
pub(crate) fn name_mistake(text: &str) -> Option<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.is_empty() {
        Some("is empty; a name has 1 to 80 characters".to_owned())
    } else if text.chars().count() > NAME_MAX {
        Some(format!("has {} characters; a name has at most {NAME_MAX}", text.chars().count()))
    } else if !text.chars().all(|c| word(c) || matches!(c, '.' | '-')) {
        Some("is no name; a name has letters, digits, `.`, `-` and `_`".to_owned())
    } else if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Some("is no name; a name starts with a letter or a digit".to_owned())
    } else if !text.ends_with(word) {
        Some("is no name; a name ends with a letter, a digit or `_`".to_owned())
    } else {
        None
    }
}

/// `true` or `false`, and none of YAML's other spellings.
pub(super) fn boolean(node: &Node, report: &mut Report<'_>) -> Option<bool> {
    match plain(node, "true or false", report)? {
        "true" => Some(true),
        "false" => Some(false),
        other => refuse(node, other, "is neither true nor false; write `true` or `false`", report),
    }
}

/// One of a closed list of words.
pub(super) fn word<T: Word>(node: &Node, report: &mut Report<'_>) -> Option<T> {
    let words = || T::WORDS.iter().map(|(word, _)| *word);
    let text = scalar(node, &format!("one of {}", list(words(), "or")), report)?;
    if let Some((_, value)) = T::WORDS.iter().find(|(word, _)| *word == text) {
        return Some(*value);
    }
    match nearest(text, words()) {
        Some(meant) => refuse(node, text, format_args!("is not known here; did you mean `{meant}`?"), report),
        None => refuse(node, text, format_args!("is not known here; write {}", list(words(), "or")), report),
    }
}

/// Decimal digits with single `_` between them. Other bases, signs and leading zeros mean different things to different readers, and are refused.
pub(crate) fn parse_count(text: &str) -> Option<u64> {
    let digits: String = text.split('_').collect();
    let grouped = text.split('_').all(|group| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit()));
    let leading_zero = digits.len() > 1 && digits.starts_with('0');
    if grouped && !leading_zero { digits.parse().ok() } else { None }
}

/// The version of the configuration's form; there is one so far.
pub(super) fn version(node: &Node, report: &mut Report<'_>) -> Option<u64> {
    match plain(node, "a version number", report)? {
        "1" => Some(1),
        other => refuse(node, other, "is no version that is read here; write 1", report),
    }
}

/// Whether it is a number, though perhaps one beyond all ranges.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit() || b == b'_')
        && digits.starts_with(|c: char| ('1'..='9').contains(&c))
}

/// A whole number in a range.
pub(super) fn count<T>(range: RangeInclusive<u64>) -> impl Fn(&Node, &mut Report<'_>) -> Option<T>
where
    T: TryFrom<u64>,
{
    move |node, report| {
        let (min, max) = (range.start(), range.end());
        let text = plain(node, "a number", report)?;
        let number = parse_count(text);
        if let Some(value) = number.filter(|n| range.contains(n)).and_then(|n| T::try_from(n).ok()) {
            return Some(value);
        }
        if number.is_some() || is_number(text) {
            return refuse(
                node,
                text,
                format_args!("is out of range; write a number from {min} to {max}"),
                report,
            );
        }
        refuse(node, text, format_args!("is no number; write a whole number from {min} to {max}"), report)
    }
}

/// A number of TCP or UDP port that something listens on.
pub(super) fn port(node: &Node, report: &mut Report<'_>) -> Option<u16> {
    count(1..=65535)(node, report)
}

/// `500ms`, `5s`, `4m` or `2h`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_ms = match text.get(number.len()..)? {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    parse_count(number)?.checked_mul(unit_ms).map(Duration::from_millis)
}

/// A time as the configuration spells it, in the largest unit that divides it.
pub(crate) fn spell_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0 => "0s".to_owned(),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        _ => format!("{ms}ms"),
    }
}

/// A time in a range.
pub(super) fn duration(
    range: RangeInclusive<Duration>,
) -> impl Fn(&Node, &mut Report<'_>) -> Option<Duration> {
    move |node, report| {
        let text = scalar(node, "a time", report)?;
        let Some(value) = parse_duration(text) else {
            return refuse(
                node,
                text,
                "is no time; write a number with a unit, such as 500ms, 5s, 4m or 2h",
                report,
            );
        };
        if range.contains(&value) {
            return Some(value);
        }
        let (min, max) = (spell_duration(*range.start()), spell_duration(*range.end()));
        refuse(node, text, format_args!("is out of range; write a time from {min} to {max}"), report)
    }
}

/// `512M` or `2G`, in MiB.
pub(crate) fn parse_mebibytes(text: &str) -> Option<u64> {
    let (number, unit_mib) = match (text.strip_suffix('M'), text.strip_suffix('G')) {
        (Some(number), _) => (number, 1),
        (_, Some(number)) => (number, 1024),
        _ => return None,
    };
    parse_count(number)?.checked_mul(unit_mib)
}

/// An amount of memory in a range of MiB.
pub(super) fn mebibytes(range: RangeInclusive<u32>) -> impl Fn(&Node, &mut Report<'_>) -> Option<u32> {
    move |node, report| {
        let text = scalar(node, "an amount of memory", report)?;
        let Some(value) = parse_mebibytes(text) else {
            let message = "is no amount of memory; write a number with a unit, such as 512M or 2G";
            return refuse(node, text, message, report);
        };
        if let Some(value) = u32::try_from(value).ok().filter(|value| range.contains(value)) {
            return Some(value);
        }
        let (min, max) = (range.start(), range.end() / 1024);
        refuse(node, text, format_args!("is out of range; write an amount from {min}M to {max}G"), report)
    }
}

/// A service of the kernel's sockets: `tcp/179`, `udp/4000-4010`, or one of [`HostService::NAMED`].
pub(super) fn host_services(node: &Node, report: &mut Report<'_>) -> Option<Vec<HostService>> {
    let text = scalar(node, "a service", report)?;
    if let Some((_, services)) = HostService::NAMED.iter().find(|(name, _)| *name == text) {
        return Some(services.to_vec());
    }
    let numbered = text.split_once('/').and_then(|(protocol, ports)| {
        let (_, protocol) = HostProtocol::WORDS.iter().find(|(word, _)| *word == protocol)?;
        let (first, last) = parse_port_range(ports).filter(|_| ports != "*")?;
        Some((*protocol, first, last))
    });
    let Some((protocol, first, last)) = numbered else {
        let names = list(HostService::NAMED.iter().map(|(name, _)| *name), "or");
        let message = format_args!("is no service; write for example tcp/179, udp/4000-4010, {names}");
        return refuse(node, text, message, report);
    };
    if first > last {
        return refuse(node, text, format_args!("runs backwards; write {protocol}/{last}-{first}"), report);
    }
    match (u16::try_from(first), u16::try_from(last)) {
        (Ok(first), Ok(last)) if first > 0 => {
            Some(vec![HostService { protocol, ports: PortRange { first, last } }])
        }
        _ => refuse(node, text, "is out of range; write ports from 1 to 65535", report),
    }
}

/// An address alone.
fn any_address(node: &Node, report: &mut Report<'_>) -> Option<IpAddr> {
    let text = scalar(node, "an IP address", report)?;
    match text.parse() {
        Ok(address) => Some(address),
        Err(_) => refuse(node, text, "is no IP address; write for example 192.0.2.1 or 2001:db8::1", report),
    }
}

/// The address of one station.
pub(super) fn address(node: &Node, report: &mut Report<'_>) -> Option<IpAddr> {
    let address = any_address(node, report)?;
    match not_a_station(address) {
        None => Some(address),
        Some(mistake) => refuse(node, &address.to_string(), mistake, report),
    }
}

/// Why no station can have this address.
fn not_a_station(address: IpAddr) -> Option<&'static str> {
    let broadcast = matches!(address, IpAddr::V4(a) if a.is_broadcast());
    let mapped = matches!(address, IpAddr::V6(a) if a.to_ipv4_mapped().is_some());
    if address.is_unspecified() {
        Some("is the unspecified address; write that of a station")
    } else if address.is_multicast() || broadcast {
        Some("is an address of many stations; write that of one")
    } else if address.is_loopback() {
        Some("is a loopback address; write one that can be on a wire")
    } else if mapped {
        Some("is an IPv4 address in IPv6 form; write it as an IPv4 address")
    } else {
        None
    }
}

/// An address with the length of the prefix it stands in: `192.0.2.1/24`. Without a length it stands alone.
pub(super) fn interface_address(node: &Node, report: &mut Report<'_>) -> Option<(IpAddr, u8)> {
    let text = scalar(node, "an address with its prefix length", report)?;
    let (address, len) = match parse_address_and_len(text) {
        Ok(pair) => pair,
        Err(error) => return refuse(node, text, error, report),
    };
    if let Some(mistake) = not_a_station(address) {
        return refuse(node, text, mistake, report);
    }
    let prefix = Prefix::containing(address, len).ok()?;
    if prefix.is_ipv4() && len <= 30 && (address == prefix.first() || address == prefix.last()) {
        let message = format_args!("is the network or broadcast address of {prefix}; write one between them");
        return refuse(node, text, message, report);
    }
    Some((address, len))
}

/// One prefix.
pub(super) fn prefix(node: &Node, report: &mut Report<'_>) -> Option<Prefix> {
    let text = scalar(node, "a prefix", report)?;
    if text == "*" {
        return refuse(node, text, "is of both families; write 0.0.0.0/0 or ::/0 here", report);
    }
    Prefix::parse(text).map_or_else(|error| refuse(node, text, error, report), Some)
}

/// A prefix of a list, where `*` stands for both families.
pub(super) fn prefixes(node: &Node, report: &mut Report<'_>) -> Option<Vec<Prefix>> {
    let text = scalar(node, "a prefix", report)?;
    if text == "*" {
        return Some(vec![Prefix::ANY_V4, Prefix::ANY_V6]);
    }
    Prefix::parse(text).map_or_else(|error| refuse(node, text, error, report), |prefix| Some(vec![prefix]))
}

/// An Ethernet address of one station.
pub(super) fn mac(node: &Node, report: &mut Report<'_>) -> Option<MacAddress> {
    let text = scalar(node, "an Ethernet address", report)?;
    match text.parse::<MacAddress>() {
        Ok(mac) if mac.is_unicast() => Some(mac),
        Ok(_) => refuse(
            node,
            text,
            "is not the address of one station; the lowest bit of its first byte is 0",
            report,
        ),
        Err(error) => refuse(node, text, error, report),
    }
}

/// An address and a port to listen on.
pub(super) fn socket(node: &Node, report: &mut Report<'_>) -> Option<SocketAddr> {
    let text = scalar(node, "an address and a port", report)?;
    match text.parse::<SocketAddr>() {
        Ok(socket) if socket.port() == 0 => {
            refuse(node, text, "has port 0; write a port from 1 to 65535", report)
        }
        Ok(socket) => Some(socket),
        Err(_) => refuse(
            node,
            text,
            "is no address and port; write for example 127.0.0.1:9100 or [::1]:9100",
            report,
        ),
    }
}

/// `443`, `9000-9100` or `*`.
pub(crate) fn parse_port_range(text: &str) -> Option<(u64, u64)> {
    if text == "*" {
        return Some((0, 65535));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    parse_count(first.trim()).zip(parse_count(last.trim()))
}

/// An element of a list of ports.
pub(super) fn port_range(node: &Node, report: &mut Report<'_>) -> Option<PortRange> {
    let text = scalar(node, "a port or a range of ports", report)?;
    let Some((first, last)) = parse_port_range(text) else {
        return refuse(node, text, "is no port; write for example 443, 9000-9100 or \"*\"", report);
    };
    if first > last {
        return refuse(node, text, format_args!("runs backwards; write {last}-{first}"), report);
    }
    match (u16::try_from(first), u16::try_from(last)) {
        (Ok(first), Ok(last)) => Some(PortRange { first, last }),
        _ => refuse(node, text, "is out of range; write ports from 0 to 65535", report),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn durations_come_back(ms in 0u64..=u64::from(u32::MAX)) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&spell_duration(duration)), Some(duration));
        }

        #[test]
        fn durations_by_unit(number in 0u64..1_000_000, unit in 0usize..4) {
            let (suffix, ms) = [("ms", 1), ("s", 1000), ("m", 60 * 1000), ("h", 60 * 60 * 1000)][unit];
            prop_assert_eq!(parse_duration(&format!("{number}{suffix}")), Some(Duration::from_millis(number * ms)));
        }

        #[test]
        fn counts_with_separators(number: u64, at in 0usize..20) {
            let mut text = number.to_string();
            prop_assert_eq!(parse_count(&text), Some(number));
            let inside = (1..text.len()).contains(&at);
            text.insert(at.min(text.len()), '_');
            prop_assert_eq!(parse_count(&text), inside.then_some(number));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9a-z_.:*-]{0,24}") {
            let _ = (parse_count(&text), parse_duration(&text), parse_port_range(&text), name_mistake(&text), parse_mebibytes(&text));
        }

        #[test]
        fn port_ranges(first in 0u64..70_000, last in 0u64..70_000) {
            prop_assert_eq!(parse_port_range(&format!("{first}-{last}")), Some((first, last)));
            prop_assert_eq!(parse_port_range(&first.to_string()), Some((first, first)));
        }
    }

    #[test]
    fn refuses() {
        for text in ["", "_", "1__0", "1_", "_1", "01", "0x1", "+1", "-1", "1.0", "١", "18446744073709551616"]
        {
            assert_eq!(parse_count(text), None, "{text:?}");
        }
        for text in
            ["", "5", "s", "5 s", "5sec", "5S", "1.5s", "-5s", "1h30m", "5µs", "18446744073709551615h"]
        {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
        for text in ["", "M", "512", "512MB", "1.5G", "-1G", "18446744073709551615G"] {
            assert_eq!(parse_mebibytes(text), None, "{text:?}");
        }
        for text in ["", "-", "1-", "-1", "1-2-3", "a", "**", "1,2"] {
            assert_eq!(parse_port_range(text), None, "{text:?}");
        }
    }
}
