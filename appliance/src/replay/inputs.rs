//! What one reading of all captures tells, before a frame of them is fed.

use super::capture::{Capture, Survey};
use super::order::{Merged, Ordered};
use super::plan::Plan;
use super::station::{self, Election};
use super::{ETHERNET_HEADER_BYTES, Seed};
use crate::output::{Failure, complain};
use nva_config::Config;
use nva_dataplane::addr::Mac;
use nva_dataplane::snapshot::Link;
use nva_dataplane::time::Time;
use pmd_shim::Pool;
use std::fs::File;
use std::io::Read;

/// The captures of a plan, read once.
pub(super) struct Inputs {
    /// By the place of the capture in the plan.
    surveys: Vec<Survey>,
    /// The ports' Ethernet addresses, given or elected, by their place in the plan.
    stations: Vec<Option<Mac>>,
    longest: usize,
}

impl Inputs {
    /// Reads all captures.
    ///
    /// # Errors
    /// Those of the captures.
    pub(super) fn survey(plan: &Plan) -> Result<Self, Failure> {
        let mut elections: Vec<Election> = plan.macs.iter().map(|_| Election::default()).collect();
        let mut surveys = Vec::new();
        for (port, path) in &plan.inputs {
            let mut capture = Capture::open(path)?;
            if let Some(election) = elections.get_mut(port.index()) {
                surveys.push(Survey::of(&mut capture, election)?);
            }
        }
        let stations = plan.macs.iter().zip(&elections).map(|(given, election)| given.or(election.winner()));
        let longest = surveys.iter().map(|survey| survey.longest).max().unwrap_or(0);
        Ok(Self { stations: stations.collect(), longest, surveys })
    }

    /// The links of a configuration's ports; `place` says where a port stands in the plan.
    pub(super) fn links(&self, config: &Config, place: impl Fn(usize) -> Option<usize>) -> Vec<Link> {
        let station = |index| {
            let known = place(index).and_then(|place| self.stations.get(place).copied().flatten());
            known.unwrap_or_else(|| station::default_address(index))
        };
        let ports = config.ports.iter().enumerate();
        ports.map(|(index, port)| Link { mac: station(index), mtu: port.mtu }).collect()
    }

    /// The time of the first frame of all; 0 where there is none.
    pub(super) fn start(&self) -> Time {
        Time(self.surveys.iter().filter_map(|survey| survey.earliest).min().unwrap_or(0))
    }

    pub(super) fn frames(&self) -> u64 {
        self.surveys.iter().map(|survey| survey.frames).sum()
    }

    /// Room for every frame of the captures, and for every packet that a port may send.
    pub(super) fn data_room(&self, links: &[Link]) -> usize {
        let mtu = links.iter().map(|link| usize::from(link.mtu)).max().unwrap_or(0);
        self.longest.max(mtu + ETHERNET_HEADER_BYTES).min(Pool::DATA_ROOM_MAX)
    }

    /// All frames by time, each with the place of its capture in the plan.
    ///
    /// # Errors
    /// Those of the captures.
    pub(super) fn merged(&self, plan: &Plan) -> Result<Merged<Capture>, Failure> {
        let captures = plan
            .inputs
            .iter()
            .zip(&self.surveys)
            .map(|((_, path), survey)| Ok(Ordered::new(Capture::open(path)?, path, survey.disorder_ns)));
        Merged::new(captures.collect::<Result<_, Failure>>()?)
    }
}

/// Secrets for a run that is not repeated, unless somebody wants to: it is printed.
pub(super) fn random_seed() -> Result<Seed, Failure> {
    let mut seed = [0; 16];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut seed));
    read.map_err(|error| Failure::failed(format!("/dev/urandom: {error}; give a --seed")))?;
    let seed = Seed(seed);
    complain(format_args!("--seed {seed} repeats this replay"));
    Ok(seed)
}
