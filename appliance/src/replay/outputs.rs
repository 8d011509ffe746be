//! What each port would transmit, to `DIR/PORT.pcap`.

use super::machine::Sink;
use crate::output::Failure;
use nva_dataplane::pipeline::Transmit;
use nva_dataplane::time::Time;
use nva_dataplane::verdict::PortId;
use pmd_shim::pcap::{PcapWriteError, PcapWriter};
use pmd_shim::{Frame, Pool, PoolFrame};
use std::fs;
use std::path::{Path, PathBuf};

/// The ports' transmit sides. None of their files has its name before [`finish`](Self::finish).
pub(super) struct Outputs {
    pool: Pool,
    /// By [`PortId::index`].
    writers: Vec<PcapWriter>,
    /// The timestamp of what is sent now.
    now: Time,
    /// Where frames went since [`begin`](Sink::begin).
    sent: Vec<PortId>,
    /// The first write that failed; nothing is written after it.
    failure: Option<Failure>,
}

/// The file of a port.
pub(super) fn path(folder: &Path, port: &str) -> PathBuf {
    folder.join(format!("{port}.pcap"))
}

impl Outputs {
    /// Begins the file of each port, in a folder that is made if it is not there.
    ///
    /// # Errors
    /// A [`Failure`] of exit code 1 that names the folder or file.
    pub(super) fn create(folder: &Path, ports: &[String], pool: Pool) -> Result<Self, Failure> {
        fs::create_dir_all(folder)
            .map_err(|error| Failure::failed(format!("{}: {error}", folder.display())))?;
        let writers = ports.iter().map(|port| {
            let path = path(folder, port);
            if path.is_dir() {
                return Err(Failure::failed(format!("{}: is a directory", path.display())));
            }
            PcapWriter::create(&path).map_err(failed)
        });
        let writers = writers.collect::<Result<_, Failure>>()?;
        Ok(Self { pool, writers, now: Time(0), sent: Vec::new(), failure: None })
    }

    /// The ports by which frames left since [`begin`](Sink::begin), in order.
    pub(super) fn sent(&self) -> &[PortId] {
        &self.sent
    }

    /// # Errors
    /// The first write that failed.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Brings all files to disk, still without their names.
    ///
    /// # Errors
    /// A [`Failure`] of exit code 1 that names the file.
    pub(super) fn sync(&mut self) -> Result<(), Failure> {
        self.check()?;
        self.writers.iter_mut().try_for_each(|writer| writer.sync().map_err(failed))
    }

    /// Gives all files their names.
    ///
    /// # Errors
    /// A [`Failure`] of exit code 1 that names the file.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.sync()?;
        self.writers.into_iter().try_for_each(|writer| writer.finish().map_err(failed))
    }
}

impl Sink for Outputs {
    /// From here on [`sent`](Self::sent) is empty, too.
    fn begin(&mut self, now: Time) {
        self.now = now;
        self.sent.clear();
    }
}

impl Transmit<PoolFrame> for Outputs {
    fn transmit(&mut self, port: PortId, frame: PoolFrame) {
        self.sent.push(port);
        let Some(writer) = self.writers.get_mut(port.index()).filter(|_| self.failure.is_none()) else {
            return;
        };
        self.failure = writer.write(self.now.0, frame.bytes()).err().map(failed);
    }

    fn allocate(&mut self) -> Option<PoolFrame> {
        self.pool.frame()
    }
}

fn failed(error: PcapWriteError) -> Failure {
    Failure::failed(error)
}
