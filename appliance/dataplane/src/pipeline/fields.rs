//! What the lanes of packets without a flow read of a plain one's headers, which begin where they do in all plain packets. `N` is how much of it
//! was taken at once: as far as the fixed part of its transport header.

use crate::addr::Addr;
use crate::synproxy::{SynOptions, options};
use crate::wire::plain::{self, KeyV4, KeyV6, L3, L4_OVER_V4, L4_OVER_V6};
use crate::wire::{self, FlowKey, TCP_HEADER_LEN, protocol};

/// Whether a segment that ends at `end` has all of its header, and no options, or those of nearly all segments.
#[inline(always)]
pub(super) fn is_well_formed<const N: usize>(head: &[u8; N], rest: &[u8], end: u16) -> bool {
    let behind = usize::from(end).checked_sub(N);
    behind.is_some_and(|len| match head[N - TCP_HEADER_LEN + 12] >> 4 {
        5 => true,
        8 => len >= wire::TIMESTAMP_AND_PADDING_LEN && rest.starts_with(&wire::TIMESTAMP_AND_PADDING),
        _ => false,
    })
}

/// The options of a SYN that ends at `end`, if they are those of Linux: segment size, SACK, timestamp, padding, window scale.
#[inline(always)]
pub(super) fn options_of_linux<const N: usize>(head: &[u8; N], rest: &[u8], end: u16) -> Option<SynOptions> {
    const LEN: usize = 20;
    const LINUX: [u64; 2] = [0x0a08_0204_0000_0402, 0x0003_0301];
    const LOOKED_AT: [u64; 2] = [0xffff_ffff_0000_ffff, 0x00ff_ffff];
    let options: &[u8; LEN] = rest.first_chunk()?;
    if usize::from(head[N - TCP_HEADER_LEN + 12] >> 4) * 4 != TCP_HEADER_LEN + LEN
        || usize::from(end) < N + LEN
    {
        return None;
    }
    let first = plain::word(options, 0);
    let last = u64::from(plain::half_word(options, 16));
    if (first ^ LINUX[0]) & LOOKED_AT[0] | (last ^ LINUX[1]) & LOOKED_AT[1] != 0 {
        return None;
    }
    let value = plain::half_word(options, 8).swap_bytes();
    let echo = plain::half_word(options, 12).swap_bytes();
    Some(SynOptions {
        mss: Some(((first >> 16) as u16).swap_bytes()),
        window_scale: Some(((last >> 24) as u8).min(options::SCALE_MAX)),
        sack_permitted: true,
        timestamps: Some((value, echo)),
        is_signed: false,
    })
}

/// The options of any SYN that ends at `end`, if they are well-formed and it is not signed.
#[inline(always)]
pub(super) fn options<const N: usize>(head: &[u8; N], rest: &[u8], end: u16) -> Option<SynOptions> {
    match options_of_linux(head, rest, end) {
        None if head[N - TCP_HEADER_LEN + 12] >> 4 == 5 && usize::from(end) >= N => Some(SynOptions::NONE),
        None => any_options(head, rest, end),
        found => found,
    }
}

#[inline(never)]
fn any_options<const N: usize>(head: &[u8; N], rest: &[u8], end: u16) -> Option<SynOptions> {
    let len = usize::from(head[N - TCP_HEADER_LEN + 12] >> 4) * 4;
    let len = len.checked_sub(TCP_HEADER_LEN)?;
    let options = rest.get(..len).filter(|_| N + len <= usize::from(end))?;
    let read = wire::are_well_formed(options).then(|| SynOptions::read(options))?;
    (!read.is_signed).then_some(read)
}

#[inline(always)]
pub(super) fn source<const V6: bool, const N: usize>(head: &[u8; N]) -> Addr {
    key::<V6, true, N>(head).src
}

#[inline(always)]
pub(super) fn key_v4<const N: usize>(head: &[u8; N]) -> KeyV4 {
    let (addresses, ports) = (plain::word(head, L3 + 12), plain::half_word(head, L4_OVER_V4));
    KeyV4 { addresses, ports, protocol: protocol::TCP }
}

#[inline(always)]
pub(super) fn key_v6<const N: usize>(head: &[u8; N]) -> KeyV6 {
    let [src, dst] = [L3 + 8, L3 + 24];
    let addresses = [
        plain::word(head, src),
        plain::word(head, src + 8),
        plain::word(head, dst),
        plain::word(head, dst + 8),
    ];
    KeyV6 { addresses, ports: plain::half_word(head, L4_OVER_V6), protocol: protocol::TCP }
}

/// The key of a plain packet.
#[inline(always)]
pub(super) fn key<const V6: bool, const TCP: bool, const N: usize>(head: &[u8; N]) -> FlowKey {
    let protocol = if TCP { protocol::TCP } else { protocol::UDP };
    match V6 {
        true => KeyV6 { protocol, ..key_v6(head) }.flow_key(),
        false => KeyV4 { protocol, ..key_v4(head) }.flow_key(),
    }
}
