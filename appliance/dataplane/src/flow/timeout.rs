//! How long a flow lives without a packet.

use core::time::Duration;

use nva_config::FlowTimeouts;

use crate::time::Time;

/// A tick of the timer wheel in nanoseconds: 10 ms, so that whole seconds are whole ticks.
const TICK_NS: u64 = 10_000_000;

/// The longest timeout, 124 days. Deadlines are 32-bit ticks that wrap; half of their range must be left for a sweep that lags.
const MAX_TICKS: u32 = 1 << 30;

/// What a flow's timeout depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// TCP before the handshake is complete.
    TcpHalfOpen,
    /// TCP from there on, half-closed connections included.
    TcpEstablished,
    /// TCP after both FINs are acknowledged, or after a RST.
    TcpClosing,
    /// UDP.
    Udp,
    /// ICMP queries.
    Icmp,
    /// Other protocols.
    Other,
}

/// The timeouts by class. Each is rounded up to 10 ms and cut at 124 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts([u32; 6]);

impl Timeouts {
    /// The class's timeout in ticks.
    #[inline]
    pub(super) fn ticks(&self, class: Class) -> u32 {
        self.0[class as usize]
    }

    /// The class's timeout.
    pub fn get(&self, class: Class) -> Duration {
        Duration::from_nanos(u64::from(self.ticks(class)) * TICK_NS)
    }
}

impl From<&FlowTimeouts> for Timeouts {
    fn from(timeouts: &FlowTimeouts) -> Self {
        let FlowTimeouts { tcp, tcp_half_open, tcp_closing, udp, icmp, other } = *timeouts;
        // In the order of `Class`.
        Self([tcp_half_open, tcp, tcp_closing, udp, icmp, other].map(ticks))
    }
}

fn ticks(timeout: Duration) -> u32 {
    let ticks = timeout.as_nanos().div_ceil(u128::from(TICK_NS));
    u32::try_from(ticks).map_or(MAX_TICKS, |ticks| ticks.min(MAX_TICKS))
}

/// The last tick that has begun.
#[inline]
pub(super) fn tick_at(now: Time) -> u64 {
    now.0 / TICK_NS
}

/// The first tick that does not begin before `now`: a deadline counted from it is never early.
#[inline]
pub(super) fn tick_from(now: Time) -> u64 {
    now.0.div_ceil(TICK_NS)
}

/// When a tick begins.
pub(super) fn time_of(tick: u64) -> Time {
    Time(tick.saturating_mul(TICK_NS))
}

/// Ticks in a second.
pub(super) const TICKS_PER_SECOND: u32 = (1_000_000_000 / TICK_NS) as u32;
