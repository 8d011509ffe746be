//! What the command line asks of the configuration: ports and backends by their names, all that is wrong in one run.

use crate::cli::CaptureArgs;
use crate::files;
use nva_config::Config;
use nva_dataplane::addr::Mac;
use nva_dataplane::verdict::PortId;
use std::path::PathBuf;

/// A replay whose names are those of the configuration.
#[derive(Debug)]
pub(super) struct Plan {
    /// Captures with the ports that receive them: the ports in the order given, the captures of one port together.
    pub(super) inputs: Vec<(PortId, PathBuf)>,
    /// The addresses that `--mac` gives, by [`PortId::index`].
    pub(super) macs: Vec<Option<Mac>>,
    /// Backends that are down.
    pub(super) down: Vec<String>,
}

/// The names that a command line may use.
pub(super) struct Known<'a> {
    /// They are of two configurations.
    of_two: bool,
    /// Ports; a [`PortId`] of the plan points into them.
    pub(super) ports: Vec<&'a str>,
    /// Those of them that another port carries.
    segments: Vec<&'a str>,
    /// Backends, sorted.
    pub(super) backends: Vec<&'a str>,
}

impl<'a> Known<'a> {
    /// The names of one configuration.
    pub(super) fn of(config: &'a Config) -> Self {
        let pools = config.load_balancers.iter().flat_map(|lb| &lb.pools);
        let mut backends: Vec<&str> =
            pools.flat_map(|pool| &pool.backends).map(|backend| backend.name.as_str()).collect();
        backends.sort_unstable();
        backends.dedup();
        let ports = config.ports.iter().map(|port| port.name.as_str()).collect();
        let segments = config.ports.iter().filter(|port| port.vxlan.is_some());
        let segments = segments.map(|port| port.name.as_str()).collect();
        Self { of_two: false, ports, segments, backends }
    }

    /// The names of either of two configurations; ports in the order of the old one, then those that are only in the new one.
    pub(super) fn of_either(old: &'a Config, new: &'a Config) -> Self {
        let (mut known, new) = (Self::of(old), Self::of(new));
        known.of_two = true;
        let lists = [
            (&mut known.ports, new.ports),
            (&mut known.segments, new.segments),
            (&mut known.backends, new.backends),
        ];
        for (names, more) in lists {
            let before = names.clone();
            names.extend(more.into_iter().filter(|name| !before.contains(name)));
        }
        known.backends.sort_unstable();
        known
    }

    fn port(&self, name: &str) -> Option<PortId> {
        let index = self.ports.iter().position(|port| *port == name)?;
        u16::try_from(index).ok().map(PortId)
    }

    fn no_port(&self, name: &str) -> String {
        self.no_such("port", name, &self.ports)
    }

    fn no_such(&self, kind: &str, name: &str, known: &[&str]) -> String {
        if self.of_two {
            let known = known.join("`, `");
            format!("neither configuration has a {kind} `{name}`; together they have `{known}`")
        } else {
            files::no_such(kind, name, known)
        }
    }
}

impl Plan {
    /// # Errors
    /// A sentence for each name that there is not.
    pub(super) fn new(args: &CaptureArgs, known: &Known<'_>) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        let mut inputs = Vec::new();
        for input in &args.inputs {
            match known.port(&input.port) {
                Some(_) if known.segments.contains(&input.port.as_str()) => wrong.push(format!(
                    "--in {0}: the port `{0}` is a segment; its frames are in the capture of the port that carries it",
                    input.port
                )),
                Some(port) => inputs.push((port, input.path.clone())),
                None => wrong.push(format!("--in {}: {}", input.port, known.no_port(&input.port))),
            }
        }
        let mut macs = vec![None; known.ports.len()];
        for given in &args.mac {
            match known.port(&given.port).and_then(|port| macs.get_mut(port.index())) {
                Some(mac @ None) => *mac = Some(given.mac),
                Some(Some(_)) => {
                    wrong.push(format!("--mac {}: the port has an address already; give it once", given.port))
                }
                None => wrong.push(format!("--mac {}: {}", given.port, known.no_port(&given.port))),
            }
        }
        for down in args.down.iter().filter(|down| !known.backends.contains(&down.as_str())) {
            let no_such = known.no_such("backend", down, &known.backends);
            wrong.push(format!("--down {down}: {no_such}"));
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let order: Vec<PortId> = inputs.iter().map(|(port, _)| *port).collect();
        inputs.sort_by_key(|(port, _)| order.iter().position(|first| first == port));
        Ok(Self { inputs, macs, down: args.down.clone() })
    }
}
