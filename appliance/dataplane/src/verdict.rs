//! What became of a frame: exactly one verdict for each, with the one closed list of drop reasons.

use core::fmt;

/// A port of the appliance, by its place in the configuration; or a tunnel to one peer, which is a port on top of such a one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u16);

impl PortId {
    /// Tunnels count from here on.
    const TUNNELS: u16 = 0x8000;
    /// How many tunnels can be told apart; the last number is nobody's.
    pub const TUNNELS_MAX: usize = 0x7fff;

    /// The tunnel of this number, which is below [`TUNNELS_MAX`](Self::TUNNELS_MAX).
    pub const fn tunnel(number: u16) -> Self {
        Self(Self::TUNNELS | number)
    }

    /// It is a tunnel.
    #[inline(always)]
    pub const fn is_tunnel(self) -> bool {
        ((self.0 ^ Self::TUNNELS) as usize) < Self::TUNNELS_MAX
    }

    /// The number of a tunnel.
    #[inline(always)]
    pub const fn tunnel_index(self) -> usize {
        (self.0 & !Self::TUNNELS) as usize
    }

    /// As an index, of a port that is no tunnel.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A security rule, by a number that means the same rule name in every generation of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);

/// A backend, by a number that means the same backend name in every generation of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub u32);

/// The end of a frame's way through the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It left through this port, changed or not.
    Forward(PortId),
    /// The appliance answered it; for an ICMP error, with what caused it.
    Reply(Option<DropReason>),
    /// Taken in, and nothing was sent for it.
    Consume,
    /// Kept for later: a next hop is being resolved, a first fragment has not come yet.
    Hold,
    /// Dropped.
    Drop(DropReason),
}

macro_rules! drop_reasons {
    ($($variant:ident = $name:literal: $doc:literal,)+) => {
        /// Why a frame was dropped. One closed list for counters, command line, replay, metrics, logs and documentation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $doc] $variant,)+
        }

        impl DropReason {
            /// Every reason, in the order in which reports list them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The reason's name in every output.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence on what it means.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $doc,)+ }
            }

            /// As an index into counters.
            #[inline]
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

drop_reasons! {
    Malformed = "malformed": "A truncated or impossible header.",
    BadChecksum = "bad_checksum": "A header or transport checksum is wrong.",
    NotForUs = "not_for_us": "The frame is for another station, or for a group that the appliance is no member of.",
    NoRoute = "no_route": "No route leads to the destination.",
    UnresolvedNeighbor = "unresolved_neighbor": "The next hop did not answer, or too many packets wait for it.",
    TtlExceeded = "ttl_exceeded": "The time to live or hop limit ran out here.",
    TooBig = "too_big": "The packet does not fit the way out and must not be fragmented.",
    Fragment = "fragment": "A fragment that overlaps, is too small, is one of too many, or never became whole.",
    Unsupported = "unsupported": "A VLAN tag, protocol, option or extension header that the appliance does not carry.",
    DeniedByRule = "denied_by_rule": "A security rule denies it, or nothing allows it.",
    Blocklisted = "blocklisted": "The source is on the blocklist.",
    Spoofed = "spoofed": "The source cannot be where the packet came from.",
    SynRate = "syn_rate": "More SYNs than allowed.",
    SourceRate = "source_rate": "More new connections from this source than allowed.",
    ConnectionLimit = "connection_limit": "The source has as many connections as allowed.",
    Amplification = "amplification": "Traffic of a known amplification attack.",
    IcmpRate = "icmp_rate": "More ICMP than allowed.",
    InvalidCookie = "invalid_cookie": "An acknowledgement without a valid SYN cookie.",
    InvalidState = "invalid_state": "The packet does not fit the state of its connection, or there is no connection.",
    NoHealthyBackend = "no_healthy_backend": "The pool has no backend that may take the connection.",
    FlowTableFull = "flow_table_full": "No room for another flow.",
    SnatExhausted = "snat_exhausted": "No source port is left for translation.",
    TunnelUnknownVni = "tunnel_unknown_vni": "No tunnel has this network identifier.",
    TunnelWrongPort = "tunnel_wrong_port": "The network identifier belongs to a tunnel on another UDP port.",
    TunnelBadPeer = "tunnel_bad_peer": "The outer source is no peer of the gateway.",
    TunnelTrust = "tunnel_trust": "The packet came through the tunnel of the wrong side.",
    TxQueueFull = "tx_queue_full": "The port's transmit queue was full, or the queue to the worker that the packet belongs to.",
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
