//! The appliance of the demo: `nva run` in a namespace of its own.

use super::config;
use super::lab::{APPLIANCE_SPACE, Lab, Plan, signal};
use crate::output::Failure;
use crate::run::protocol::{Backend, Backends, Request, Stats};
use crate::show::{self, Client};
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the appliance may take to start, to take up a configuration, or to end.
const WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A running appliance.
#[derive(Debug)]
pub(super) struct Appliance {
    child: Child,
    plan: Arc<Plan>,
    core: usize,
}

impl Appliance {
    /// Starts it and waits until it forwards.
    ///
    /// # Errors
    /// What it said when it did not start.
    pub(super) fn start(lab: &Lab, plan: &Arc<Plan>) -> Result<Self, Failure> {
        // The last core: the first ones have interrupts to handle.
        let core =
            core_affinity::get_core_ids().and_then(|cores| cores.last().copied()).map_or(0, |core| core.id);
        let log = |path: PathBuf| {
            File::create(&path).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
        };
        write_config(plan, core, &[])?;
        let (config, socket) = (config_path(plan), socket_path(plan));
        let args = ["run", "--config", &config.to_string_lossy(), "--socket", &socket.to_string_lossy()];
        let child = lab
            .program(APPLIANCE_SPACE, &args)?
            .stdout(log(plan.folder.join("out"))?)
            .stderr(log(plan.folder.join("err"))?)
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| Failure::failed(format!("nva run: {error}")))?;
        let mut appliance = Self { child, plan: Arc::clone(plan), core };
        appliance.wait_for("the appliance did not start", |appliance| {
            Ok(appliance.output("out").contains("forwarding on"))
        })?;
        Ok(appliance)
    }

    /// Where its control socket is.
    pub(super) fn socket(&self) -> PathBuf {
        socket_path(&self.plan)
    }

    /// Where its configuration is.
    pub(super) fn config(&self) -> PathBuf {
        config_path(&self.plan)
    }

    /// What it printed: `out` or `err`.
    pub(super) fn output(&self, name: &str) -> String {
        std::fs::read_to_string(self.plan.folder.join(name)).unwrap_or_default()
    }

    /// What `nva show stats` shows.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub(super) fn stats(&self) -> Result<Stats, Failure> {
        show::stats(&mut Client::connect(&self.socket())?)
    }

    /// What `nva show stats` shows once the counters fit a condition, or else after a second.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub(super) fn stats_when(&self, fits: impl Fn(&Stats) -> bool) -> Result<Stats, Failure> {
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            let stats = self.stats()?;
            if fits(&stats) || Instant::now() >= deadline {
                return Ok(stats);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// What `nva show backends` shows.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub(super) fn backends(&self) -> Result<Vec<Backend>, Failure> {
        let report: Backends = Client::connect(&self.socket())?.ask(&Request::Backends {})?;
        Ok(report.backends)
    }

    /// Rewrites the configuration with these backends taken away, sends SIGHUP, and waits until it is in use.
    ///
    /// # Errors
    /// What the appliance said when it did not take it up.
    pub(super) fn reload(&mut self, down: &[&str]) -> Result<u32, Failure> {
        let before = self.stats()?.generation;
        write_config(&self.plan, self.core, down)?;
        signal(&self.child.id().to_string(), "HUP");
        self.wait_for("the new configuration was not taken up", |appliance| {
            Ok(appliance.stats()?.generation > before)
        })?;
        Ok(self.stats()?.generation)
    }

    /// Asks it to end and waits; whether it ended cleanly.
    ///
    /// # Errors
    /// When it did not end.
    pub(super) fn stop(&mut self) -> Result<bool, Failure> {
        signal(&self.child.id().to_string(), "TERM");
        let deadline = Instant::now() + WITHIN;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status.success()),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK_EVERY),
                Ok(None) => return Err(Failure::failed("the appliance did not end")),
                Err(error) => return Err(Failure::failed(format!("the appliance: {error}"))),
            }
        }
    }

    fn wait_for(
        &mut self,
        otherwise: &str,
        mut done: impl FnMut(&Self) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + WITHIN;
        while !done(self)? {
            let ended = matches!(self.child.try_wait(), Ok(Some(_)));
            if ended || Instant::now() >= deadline {
                let said = self.output("err");
                return Err(Failure::failed(format!("{otherwise}: {}", said.trim())));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config_path(plan: &Plan) -> PathBuf {
    plan.folder.join("nva.yaml")
}

fn socket_path(plan: &Plan) -> PathBuf {
    plan.folder.join("nva.sock")
}

fn write_config(plan: &Plan, core: usize, down: &[&str]) -> Result<(), Failure> {
    let path = config_path(plan);
    std::fs::write(&path, config::text(core, down))
        .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}
