//! What the command line asks of the configuration: ports and backends by their names, all that is wrong in one run.

use super::outputs;
use crate::cli::ReplayArgs;
use crate::files;
use crate::output::Failure;
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

impl Plan {
    /// # Errors
    /// A [`Failure`] of exit code 2 with a line for each name that the configuration does not have.
    pub(super) fn new(config: &Config, args: &ReplayArgs) -> Result<Self, Failure> {
        let mut wrong = Vec::new();
        let mut inputs = Vec::new();
        for input in &args.inputs {
            match port_named(config, &input.port) {
                Some(port) => inputs.push((port, input.path.clone())),
                None => {
                    wrong.push(format!("--in {}: {}", input.port, files::no_such_port(config, &input.port)))
                }
            }
        }
        let mut macs = vec![None; config.ports.len()];
        for given in &args.mac {
            match port_named(config, &given.port).and_then(|port| macs.get_mut(port.index())) {
                Some(mac @ None) => *mac = Some(given.mac),
                Some(Some(_)) => {
                    wrong.push(format!("--mac {}: the port has an address already; give it once", given.port))
                }
                None => {
                    wrong.push(format!("--mac {}: {}", given.port, files::no_such_port(config, &given.port)))
                }
            }
        }
        let backends = backends(config);
        for down in args.down.iter().filter(|down| !backends.contains(&down.as_str())) {
            wrong.push(format!("--down {down}: {}", files::no_such("backend", down, &backends)));
        }
        if let Some(verdicts) = &args.verdicts
            && config.ports.iter().any(|port| outputs::path(&args.out, &port.name) == *verdicts)
        {
            wrong.push(format!(
                "--verdicts {}: --out writes a port's frames there; give another name",
                verdicts.display()
            ));
        }
        if wrong.is_empty() {
            let order: Vec<PortId> = inputs.iter().map(|(port, _)| *port).collect();
            inputs.sort_by_key(|(port, _)| order.iter().position(|first| first == port));
            Ok(Self { inputs, macs, down: args.down.clone() })
        } else {
            Err(Failure::usage_all(wrong))
        }
    }
}

fn port_named(config: &Config, name: &str) -> Option<PortId> {
    let index = config.ports.iter().position(|port| port.name == name)?;
    u16::try_from(index).ok().map(PortId)
}

fn backends(config: &Config) -> Vec<&str> {
    let pools = config.load_balancers.iter().flat_map(|lb| &lb.pools);
    let mut names: Vec<&str> =
        pools.flat_map(|pool| &pool.backends).map(|backend| backend.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
}
