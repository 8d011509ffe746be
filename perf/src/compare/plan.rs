//! How long a comparison takes.

use super::Name;
use std::time::Duration;

/// What a comparison takes on a machine of its own, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    /// To start everything.
    set_up: f64,
    /// For a pair of shots of each of its figures.
    pair: f64,
}

impl Name {
    /// As it was seen on two cores at 2.5 GHz.
    const fn plan(self) -> Plan {
        match self {
            Self::Null => Plan { set_up: 6.0, pair: 2.8 },
            Self::Pcap => Plan { set_up: 30.0, pair: 5.5 },
            Self::Firsts => Plan { set_up: 30.0, pair: 2.8 },
            Self::Workers | Self::Handover => Plan { set_up: 2.0, pair: 1.4 },
            Self::Memif => Plan { set_up: 8.0, pair: 14.0 },
            Self::Afpacket | Self::Afxdp => Plan { set_up: 8.0, pair: 17.0 },
            Self::Plain | Self::Kernel => Plan { set_up: 12.0, pair: 24.5 },
            Self::Synproxy => Plan { set_up: 26.0, pair: 22.0 },
            Self::Vxlan => Plan { set_up: 24.0, pair: 6.0 },
        }
    }

    /// How long it takes with so many pairs when nothing is void and nothing is waited for.
    pub(crate) fn expected(self, pairs: usize) -> Duration {
        let Plan { set_up, pair } = self.plan();
        Duration::from_secs_f64(set_up + pair * pairs as f64)
    }

    /// When no further pair is begun.
    pub(crate) fn at_most(self, pairs: usize, patience: Duration) -> Duration {
        2 * self.expected(pairs) + patience
    }
}

/// As people say it.
pub(crate) fn spoken(time: Duration) -> String {
    let seconds = time.as_secs_f64().ceil() as u64;
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, 0) => format!("{minutes} min"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn no_comparison_is_without_an_end() {
        for name in Name::value_variants() {
            let (expected, at_most) = (name.expected(8), name.at_most(8, Duration::from_secs(120)));
            assert!(expected < at_most && at_most < Duration::from_secs(20 * 60), "{name:?}");
        }
        let all: Duration = Name::value_variants().iter().map(|name| name.expected(8)).sum();
        assert!(all < Duration::from_secs(30 * 60), "{all:?}");
    }

    #[test]
    fn times_are_spoken() {
        assert_eq!(
            [0.2, 59.0, 60.0, 61.5].map(|s| spoken(Duration::from_secs_f64(s))),
            ["1 s", "59 s", "1 min", "1 min 2 s"]
        );
    }
}
