//! What a SYN is answered with at once: the options that both ends have, and a cookie that remembers them.

use crate::addr::Family;
use crate::emit::syn_ack::{More, SynAck};
use crate::synproxy::{self, Cookies, Offer, SynOptions};

/// ECN-Echo and Congestion Window Reduced (RFC 3168, 6.1).
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

/// The answer to a SYN of this hash and these flags.
#[inline(always)]
pub(super) fn answer<const V6: bool>(
    cookies: &Cookies,
    question: (u64, u8),
    syn: &SynOptions,
    offer: &Offer,
) -> SynAck {
    match (syn, offer) {
        // What nearly all clients and backends agree to: of these nothing is left to be asked.
        (
            &SynOptions { mss: Some(mss), window_scale: Some(own), timestamps: Some(theirs), .. },
            &Offer { window_scale: Some(promised), timestamps: true, .. },
        ) => {
            let syn =
                SynOptions { mss: Some(mss), window_scale: Some(own), timestamps: Some(theirs), ..*syn };
            let offer = Offer { window_scale: Some(promised), timestamps: true, ..*offer };
            agree::<V6>(cookies, question, &syn, &offer)
        }
        _ => agree_rarely::<V6>(cookies, question, syn, offer),
    }
}

#[inline(never)]
fn agree_rarely<const V6: bool>(
    cookies: &Cookies,
    question: (u64, u8),
    syn: &SynOptions,
    offer: &Offer,
) -> SynAck {
    agree::<V6>(cookies, question, syn, offer)
}

#[inline(always)]
#[expect(clippy::manual_map, reason = "a closure that is used twice is not inlined")]
fn agree<const V6: bool>(
    cookies: &Cookies,
    (hash, flags): (u64, u8),
    syn: &SynOptions,
    offer: &Offer,
) -> SynAck {
    let family = if V6 { Family::V6 } else { Family::V4 };
    let theirs = match syn.timestamps {
        Some((theirs, _)) if offer.timestamps => Some(theirs),
        _ => None,
    };
    let (scale, promised) = match (syn.window_scale, offer.window_scale) {
        (Some(own), Some(promised)) => (Some(own), Some(promised)),
        _ => (None, None),
    };
    let sack = syn.sack_permitted & offer.sack;
    let ecn = (flags & (ECE | CWR) == ECE | CWR) & offer.ecn & theirs.is_some();
    let more = match theirs {
        Some(_) => Some(synproxy::More { scale, promised, sack, ecn }),
        None => None,
    };
    let cookie = cookies.bake_of(hash, family, syn.mss, more);
    SynAck {
        seq: cookie.seq,
        flags: if ecn { ECE } else { 0 },
        mss: offer.mss,
        more: match theirs {
            Some(theirs) => Some(More {
                timestamps: (cookie.timestamp, theirs),
                window_scale: promised,
                sack_permitted: sack,
            }),
            None => None,
        },
    }
}
