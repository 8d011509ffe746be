//! What a SYN is answered with at once: the options that both ends have, and a cookie that remembers them.

use crate::addr::{Family, MacWord};
use crate::emit::NotWritten;
use crate::emit::syn_ack::{self, More, SynAck};
use crate::synproxy::{self, Cookies, Offer, SynOptions};
use pmd_shim::Frame;

/// ECN-Echo and Congestion Window Reduced (RFC 3168, 6.1).
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

/// What of a SYN is no option.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    /// Of its cookie.
    pub(super) hash: u64,
    pub(super) flags: u8,
    /// The largest segment that fits the links.
    pub(super) mss_max: u16,
}

/// Makes the frame of a SYN its answer, from this station.
#[inline(always)]
pub(super) fn answer<F: Frame, const V6: bool>(
    frame: &mut F,
    cookies: &Cookies,
    question: Question,
    syn: &SynOptions,
    offer: &Offer,
    station: MacWord,
) -> Result<(), NotWritten> {
    match (syn, offer) {
        // What nearly all clients and backends agree to: of these nothing is left to be asked.
        (
            &SynOptions { mss: Some(mss), window_scale: Some(own), timestamps: Some(theirs), .. },
            &Offer { window_scale: Some(promised), timestamps: true, .. },
        ) => {
            let syn =
                SynOptions { mss: Some(mss), window_scale: Some(own), timestamps: Some(theirs), ..*syn };
            let offer = Offer { window_scale: Some(promised), timestamps: true, ..*offer };
            write::<F, V6>(frame, &agree::<V6>(cookies, question, &syn, &offer), station)
        }
        _ => answer_rarely::<F, V6>(frame, cookies, question, syn, offer, station),
    }
}

#[inline(never)]
fn answer_rarely<F: Frame, const V6: bool>(
    frame: &mut F,
    cookies: &Cookies,
    question: Question,
    syn: &SynOptions,
    offer: &Offer,
    station: MacWord,
) -> Result<(), NotWritten> {
    write::<F, V6>(frame, &agree::<V6>(cookies, question, syn, offer), station)
}

#[inline(always)]
fn write<F: Frame, const V6: bool>(
    frame: &mut F,
    answer: &SynAck,
    station: MacWord,
) -> Result<(), NotWritten> {
    match V6 {
        true => syn_ack::answer_v6(frame, answer, station),
        false => syn_ack::answer_v4(frame, answer, station),
    }
}

#[inline(always)]
#[expect(clippy::manual_map, reason = "a closure that is used twice is not inlined")]
fn agree<const V6: bool>(
    cookies: &Cookies,
    Question { hash, flags, mss_max }: Question,
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
        mss: offer.mss.min(mss_max),
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
