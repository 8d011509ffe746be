//! What of one load balancer's frontends is taken by which rule.

use std::collections::HashMap;

use crate::model::BalancingProtocol;
use crate::raw::Listener;
use crate::report::{Place, Report};

/// Frontend (by index), protocol, port.
type Socket = (usize, BalancingProtocol, u16);

/// Who listens on what.
#[derive(Default)]
pub(super) struct Listeners {
    taken: HashMap<Socket, Place>,
    /// The first rule of any kind on a frontend.
    first: HashMap<usize, Place>,
}

impl Listeners {
    /// Notes that `listener` takes its port of `frontend`; reports when another has it.
    pub(super) fn take(&mut self, frontend: usize, listener: &Listener, report: &mut Report<'_>) {
        let (Some(protocol), Some(port)) = (listener.protocol, listener.port) else { return };
        let every = (frontend, BalancingProtocol::All, 0);
        let socket = (frontend, protocol.value, port.value);
        let holder = if protocol.value == BalancingProtocol::All {
            self.first.get(&frontend)
        } else {
            self.taken.get(&socket).or_else(|| self.taken.get(&every))
        };
        if let Some(holder) = holder {
            let first = report.location(*holder);
            let message = match protocol.value {
                BalancingProtocol::All => {
                    format!("`protocol: all` takes every port of a frontend that the rule at {first} is on")
                }
                protocol => {
                    format!("{protocol} port {} of this frontend is taken by the rule at {first}", port.value)
                }
            };
            report.problem(listener.at, format!("{message}; give each rule its own frontend or port"));
            return;
        }
        self.taken.insert(socket, listener.at);
        self.first.entry(frontend).or_insert(listener.at);
    }
}
