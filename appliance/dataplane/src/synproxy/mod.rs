//! Stage 8, prove: a client shows that it is where it says it is before a backend, or a record here, hears of it.
//!
//! Decides whether a SYN is answered with a cookie, whether an acknowledgement proves one, and how the numbers of two connections are
//! made one. A SYN leaves nothing behind: what its answer must remember is in the sequence number and the timestamp of that answer, which
//! the client sends back ([`cookie`]). Only then is there a flow, with a handshake with the backend on its way ([`half_open`]), and
//! when that is done both connections are translated into each other for good ([`splice`]).
//!
//! Never keeps data, never sends a SYN-ACK twice, never allocates after start, and never writes a packet: that is `emit`'s.
//!
//! # Sequence numbers
//! The backend is given the client's own initial sequence number, so that only the backend's numbers differ: the client knows them by
//! the cookie, the backend by its own. Flows keep the backend's view: what the client sends is translated before it is held against the
//! connection's state, what the backend sends after.

pub mod batch;
pub mod cookie;
pub mod demands;
pub mod flood;
pub mod half_open;
pub mod mss;
pub mod options;
pub mod orphans;
pub mod profile;
pub mod reflection;
pub mod spent;
pub mod splice;

pub use batch::Batch;
pub use cookie::{Cookies, Memory, More, Proof, Question};
pub use demands::{Demand, Demands, Watched};
pub use flood::Floods;
pub use half_open::{Due, HalfOpen, HalfOpens};
pub use options::SynOptions;
pub use orphans::Orphans;
pub use profile::{Offer, Profile, Profiles, Scale};
pub use reflection::{Place, Reflection};
pub use spent::Spent;
pub use splice::{Lacks, Splice, Terms};

use crate::addr::Family;
use crate::siphash;
use crate::time::Time;

/// All that the proxy remembers beside the flows: of a fixed size.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Makes and knows cookies.
    pub cookies: Cookies,
    /// Cookies that were redeemed.
    pub spent: Spent,
    /// Who gets how many answers.
    pub reflection: Reflection,
    /// Handshakes with backends on their way.
    pub half_opens: HalfOpens,
    /// What backends agree to.
    pub profiles: Profiles,
    /// How many SYNs come.
    pub floods: Floods,
    /// The secret that the configuration does not give, and Unix time at [`Time`] 0 in milliseconds.
    own: ([u8; 16], u64),
    /// The longest packet that all links carry, in bytes.
    mtu: u16,
}

impl Proxy {
    /// A proxy with a secret of its own, for a worker with so many flows.
    pub fn new(seed: [u8; 16], flow_capacity: usize, now: Time) -> Self {
        // The seed keys other hashes too: none of them tells anything about this one.
        let secret = derived(seed, 0);
        Self {
            cookies: Cookies::new(secret, 0, now),
            spent: Spent::default(),
            reflection: Reflection::new(derived(seed, 2)),
            half_opens: HalfOpens::new(flow_capacity),
            profiles: Profiles::default(),
            floods: Floods::new(derived(seed, 4)),
            own: (secret, 0),
            mtu: MTU_MIN,
        }
    }

    /// Lets cookies go by Unix time, which was so many milliseconds at [`Time`] 0.
    pub fn set_clock(&mut self, epoch_ms: u64, now: Time) {
        self.own.1 = epoch_ms;
        self.cookies = self.cookies.with_clock(epoch_ms, now);
    }

    /// Takes up a configuration: the secret that several appliances share, if it gives one; the links' least MTU; how many
    /// backends there are.
    pub fn adopt(&mut self, secret: Option<[u8; 16]>, mtu: u16, backends: usize, now: Time) {
        let (own, epoch_ms) = self.own;
        self.cookies = Cookies::new(secret.unwrap_or(own), epoch_ms, now);
        self.mtu = mtu.max(MTU_MIN);
        self.profiles.fit(backends);
    }

    /// The largest segment that fits all links.
    #[inline]
    pub fn mss_max(&self, family: Family) -> u16 {
        self.mtu - headers_len(family)
    }
}

/// The least MTU that is reckoned with (RFC 791: every host takes 576 bytes).
const MTU_MIN: u16 = 576;

/// IP and TCP header without options, in bytes.
#[inline]
pub const fn headers_len(family: Family) -> u16 {
    match family {
        Family::V4 => 40,
        Family::V6 => 60,
    }
}

/// A secret for one purpose.
fn derived(seed: [u8; 16], purpose: u64) -> [u8; 16] {
    let seed = u128::from_le_bytes(seed);
    let key = [seed as u64, (seed >> 64) as u64];
    let [low, high] =
        [purpose, purpose + 1].map(|n| siphash::sip24(key, [u64::from_le_bytes(*b"synproxy"), n]));
    (u128::from(low) | u128::from(high) << 64).to_le_bytes()
}
