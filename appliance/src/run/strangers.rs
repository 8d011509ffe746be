//! Says what was refused at the tunnels of a gateway, at a limited rate: somebody may be trying to get from one side to the other.
//!
//! Time and counters are handed in.

use crate::run::counted;
use nva_dataplane::counters::Counters;
use nva_dataplane::verdict::DropReason;
use std::fmt;
use std::time::{Duration, Instant};

/// Of one port and reason, nothing is said more often.
const EVERY: Duration = Duration::from_secs(10);

/// What is worth a word.
const REASONS: [DropReason; 4] = [
    DropReason::TunnelUnknownVni,
    DropReason::TunnelWrongPort,
    DropReason::TunnelBadPeer,
    DropReason::TunnelTrust,
];

/// What there is to say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Where the packets came in, by the port's place in the configuration.
    pub(crate) port: usize,
    reason: DropReason,
    /// Since it was last said.
    count: u64,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, count, .. } = self;
        write!(f, "{} dropped as {reason}: {}", counted(*count, "packet"), reason.description())
    }
}

/// Knows what was said.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    /// By port and reason: what had been counted, and when that was said.
    said: Vec<[(u64, Option<Instant>); REASONS.len()]>,
}

impl Strangers {
    /// Takes a look at what was counted so far.
    pub(crate) fn look(&mut self, now: Instant, counters: &Counters) -> Vec<Refused> {
        let mut refused = Vec::new();
        self.said.resize(self.said.len().max(counters.ports.len()), Default::default());
        for (port, (counters, said)) in counters.ports.iter().zip(&mut self.said).enumerate() {
            for (reason, (known, at)) in REASONS.into_iter().zip(said) {
                let count = counters.dropped_for(reason).saturating_sub(*known);
                let is_early = at.is_some_and(|at| now.saturating_duration_since(at) < EVERY);
                if count > 0 && !is_early {
                    *known += count;
                    *at = Some(now);
                    refused.push(Refused { port, reason, count });
                }
            }
        }
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nva_dataplane::counters::PortCounters;

    fn dropped(trust: u64, peer: u64) -> Counters {
        let mut port = PortCounters::default();
        port.dropped[DropReason::TunnelTrust.index()] = trust;
        port.dropped[DropReason::TunnelBadPeer.index()] = peer;
        port.dropped[DropReason::Malformed.index()] = 99;
        Counters { ports: vec![PortCounters::default(), port], ..Counters::default() }
    }

    #[test]
    fn each_reason_is_said_at_once_and_then_at_a_limited_rate() {
        let (mut strangers, start) = (Strangers::default(), Instant::now());
        let mut said = |seconds, trust, peer| -> Vec<String> {
            let refused = strangers.look(start + Duration::from_secs(seconds), &dropped(trust, peer));
            assert!(refused.iter().all(|refused| refused.port == 1));
            refused
                .iter()
                .map(|refused| refused.to_string().split(':').next().unwrap_or_default().to_owned())
                .collect()
        };
        assert!(said(0, 0, 0).is_empty());
        assert_eq!(said(1, 1, 0), ["1 packet dropped as tunnel_trust"]);
        assert!(said(2, 50, 0).is_empty());
        assert_eq!(said(3, 70, 4), ["4 packets dropped as tunnel_bad_peer"]);
        assert_eq!(said(12, 90, 4), ["89 packets dropped as tunnel_trust"]);
        assert!(said(60, 90, 4).is_empty(), "nothing new");
    }
}
