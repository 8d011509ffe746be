use super::*;
use crate::addr::Addr;
use crate::synproxy::mss;
use core::time::Duration;
use proptest::prelude::*;

const SECRET: [u8; 16] = [0x42; 16];
const START: Time = Time::from_millis(1_000_000);

fn key(client: u32, port: u16) -> FlowKey {
    FlowKey {
        src: Addr::v4(client.to_be_bytes()),
        dst: Addr::v4([203, 0, 113, 10]),
        src_port: port,
        dst_port: 443,
        protocol: 6,
    }
}

fn key_v6(client: u128, port: u16) -> FlowKey {
    let dst = Addr::v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    FlowKey { src: Addr::v6((client | 1 << 125).to_be_bytes()), dst, ..key(0, port) }
}

/// What the client sends for a cookie.
fn answer(question: &Question, cookie: Cookie, theirs: Option<u32>) -> ((u32, u32), SynOptions) {
    let timestamps = theirs.map(|theirs| (theirs, cookie.timestamp));
    let options = SynOptions { timestamps, ..SynOptions::default() };
    ((question.isn.wrapping_add(1), cookie.seq.wrapping_add(1)), options)
}

/// The same in the obvious way: all that was ever sent is remembered.
#[derive(Default)]
struct Oracle(Vec<(FlowKey, u32, Cookie, Memory, u64)>);

impl Oracle {
    fn check(&self, key: &FlowKey, numbers: (u32, u32), echo: Option<u32>, now_ms: u64) -> Option<Memory> {
        let is_it = |(sent_to, isn, cookie, memory, tick): &&(FlowKey, u32, Cookie, Memory, u64)| {
            sent_to == key
                && numbers == (isn.wrapping_add(1), cookie.seq.wrapping_add(1))
                && memory.more.is_some() == echo.is_some()
                && echo.is_none_or(|echo| echo == cookie.timestamp)
                && now_ms / TICK_MS <= tick + 1
        };
        self.0.iter().find(is_it).map(|(.., memory, _)| *memory)
    }
}

fn more() -> impl Strategy<Value = Option<More>> {
    let scales = prop::option::of((0u8..=14, 0u8..=14));
    let some = (scales, any::<bool>(), any::<bool>()).prop_map(|(scales, sack, ecn)| More {
        scale: scales.map(|(own, _)| own),
        promised: scales.map(|(_, promised)| promised),
        sack,
        ecn,
    });
    prop::option::of(some)
}

proptest! {
    #[test]
    fn what_was_baked_is_believed_and_nothing_else(
        clients in prop::collection::vec((any::<u32>(), 1u16.., any::<u32>(), any::<u16>(), more(), any::<u32>()), 1..8),
        v6: bool, epoch in 0u64..1 << 41, later_ms in 0u64..200_000, flip in 0u32..64,
    ) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let mut cookies = Cookies::new(SECRET, epoch, START);
        let mut oracle = Oracle::default();
        let ms = |now: Time| epoch + now.millis();
        let mut sent = Vec::new();
        for (address, port, isn, mss, more, theirs) in clients {
            let key = if v6 { key_v6(address.into(), port) } else { key(address, port) };
            let question = Question { key, isn };
            let cookie = cookies.bake(&question, family, Some(mss), more);
            let (class, part) = mss::Class::of(mss, family);
            let told = if more.is_some() { class.size(part, family) } else { class.rough().size(0, family) };
            let memory = Memory { mss: told, more };
            oracle.0.push((key, isn, cookie, memory, ms(START) / TICK_MS));
            sent.push((question, cookie, more.map(|_| theirs)));
        }
        let now = START + Duration::from_millis(later_ms);
        cookies.keep_up(now);
        for (question, cookie, theirs) in &sent {
            let (numbers, options) = answer(question, *cookie, *theirs);
            let echo = options.timestamps.map(|(_, echo)| echo);
            let proof = cookies.check(&question.key, family, numbers, &options, true);
            // Its timestamp may be too old a little before the cookie is.
            let expected = oracle.check(&question.key, numbers, echo, ms(now));
            if proof.is_some() || later_ms < 110_000 {
                prop_assert_eq!(proof.map(|proof| proof.memory), expected);
            }
            if let Some(proof) = proof {
                prop_assert_eq!((proof.isn, proof.cookie), (question.isn, cookie.seq));
                prop_assert_eq!(proof.timestamps, theirs.map(|theirs| (cookie.timestamp, theirs)));
            }
            // One bit of either number turned round: of no cookie that was sent. A class that was not meant is told by no hash.
            let mut wrong = numbers;
            if flip < 32 { wrong.0 ^= 1 << flip } else { wrong.1 ^= 1 << (flip - 32) }
            let cookie_bits = wrong.1.wrapping_sub(1) ^ numbers.1.wrapping_sub(1);
            if oracle.check(&question.key, wrong, echo, ms(now)).is_none() && cookie_bits & !0xe != 0 {
                prop_assert_eq!(cookies.check(&question.key, family, wrong, &options, false), None);
            }
        }
    }

    #[test]
    fn a_probe_repeats_the_first_number(address: u32, isn: u32, more in more()) {
        let cookies = Cookies::new(SECRET, 0, START);
        let question = Question { key: key(address, 9), isn };
        for mss in [1000, 1460] {
            let cookie = cookies.bake(&question, Family::V4, Some(mss), more);
            let ((seq, ack), options) = answer(&question, cookie, more.map(|_| 7));
            let probe = |is_empty| cookies.check(&question.key, Family::V4, (seq.wrapping_sub(1), ack), &options, is_empty);
            prop_assert_eq!(probe(false), None);
            prop_assert_eq!(probe(true).map(|proof| proof.isn), Some(isn));
        }
    }

    #[test]
    fn others_with_the_secret_and_the_time_agree(address: u32, isn: u32, offset in 0u64..1 << 40) {
        let question = Question { key: key(address, 9), isn };
        let here = Cookies::new(SECRET, offset + 5_000, START);
        let there = Cookies::new(SECRET, offset, START + Duration::from_secs(5));
        let cookie = here.bake(&question, Family::V4, Some(1460), None);
        let (numbers, options) = answer(&question, cookie, None);
        prop_assert!(there.check(&question.key, Family::V4, numbers, &options, true).is_some());
        let stranger = Cookies::new([0x43; 16], offset, START);
        prop_assert_eq!(stranger.check(&question.key, Family::V4, numbers, &options, true), None);
    }
}

#[test]
fn a_cookie_is_good_in_its_tick_and_in_the_next() {
    let at = |seconds: u64| Time::from_millis(seconds * 1000);
    let question = Question { key: key(7, 7), isn: 7 };
    let cookie = Cookies::new(SECRET, 0, at(60)).bake(&question, Family::V4, None, None);
    let (numbers, options) = answer(&question, cookie, None);
    let mut cookies = Cookies::new(SECRET, 0, at(0));
    for (seconds, is_good) in
        [(60, true), (119, true), (120, true), (179, true), (180, false), (240, false), (299, false)]
    {
        cookies.keep_up(at(seconds));
        let proof = cookies.check(&question.key, Family::V4, numbers, &options, true);
        assert_eq!(proof.is_some(), is_good, "after {seconds} s");
    }
}

#[test]
fn timestamps_grow_with_time_and_hide_the_clock() {
    let question = Question { key: key(7, 7), isn: 7 };
    let more = Some(More { scale: Some(3), promised: Some(7), sack: true, ecn: false });
    let mut cookies = Cookies::new(SECRET, 0, Time(0));
    let first = cookies.bake(&question, Family::V4, Some(1460), more).timestamp;
    cookies.keep_up(Time::from_millis(33_000));
    let later = cookies.bake(&question, Family::V4, Some(1460), more).timestamp;
    assert_eq!(later.wrapping_sub(first), 2 << CLOCK_SHIFT);
    assert_eq!(first & 0x3ff, 7 << 6 | 1 << 4 | 3);
    let other = cookies.bake(&Question { key: key(8, 7), isn: 7 }, Family::V4, Some(1460), more).timestamp;
    assert_ne!(later & !LOW, other & !LOW);
}

/// Of the hash: each bit is as often set as not, whatever the clients are, and each bit of a question turns half of them round.
#[test]
fn the_hash_has_no_pattern() {
    const CLIENTS: u32 = 20_000;
    let cookies = Cookies::new(SECRET, 0, START);
    let bake = |client, isn| {
        cookies.bake(&Question { key: key(client, 1024), isn }, Family::V4, None, None).seq & HASHED
    };
    let (mut set, mut turned) = ([0u32; 32], [0u32; 32]);
    for client in 0..CLIENTS {
        let (hash, neighbor) =
            (bake(client, client * 64_000), bake(client ^ 1 << (client % 32), client * 64_000));
        for bit in 4..32 {
            set[bit] += hash >> bit & 1;
            turned[bit] += (hash ^ neighbor) >> bit & 1;
        }
    }
    // Six standard deviations of a fair coin.
    let fair = |count: u32| f64::from(count.abs_diff(CLIENTS / 2)) < 6.0 * (f64::from(CLIENTS) / 4.0).sqrt();
    assert!(set[4..].iter().chain(&turned[4..]).all(|count| fair(*count)), "{set:?} {turned:?}");
    let mut all: Vec<u32> = (0..CLIENTS).map(|client| bake(client, 0)).collect();
    all.sort_unstable();
    all.dedup();
    // Of so many among 2^28, fewer than one pair is expected; ten would be a pattern.
    assert!(all.len() > CLIENTS as usize - 10);
}

/// What a guess is worth, counted: over all low bits, with the others as they are for one question.
#[test]
fn sixteen_of_all_acknowledgements_are_right() {
    let mut cookies = Cookies::new(SECRET, 0, START);
    let question = Question { key: key(7, 7), isn: 7 };
    let last = cookies.bake(&question, Family::V4, None, None).seq & HASHED;
    let repeated = cookies.bake(&Question { isn: 8, ..question }, Family::V4, None, None).seq & HASHED;
    cookies.keep_up(START + Duration::from_millis(TICK_MS));
    let this = cookies.bake(&question, Family::V4, None, None).seq & HASHED;
    let repeated_now = cookies.bake(&Question { isn: 8, ..question }, Family::V4, None, None).seq & HASHED;
    let mut right = 0;
    for high in [last, this, repeated, repeated_now] {
        for low in 0..16 {
            let numbers = (8, (high | low).wrapping_add(1));
            let proof = cookies.check(&question.key, Family::V4, numbers, &SynOptions::default(), true);
            right += u32::from(proof.is_some());
        }
    }
    assert_eq!(right, 16);
}
