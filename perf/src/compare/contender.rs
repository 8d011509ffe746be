//! Who is measured on a road: the appliance, `dpdk-testpmd`, or the kernel.

use super::Cores;
use super::child::{Bookmark, Process};
use super::interrupt::Interrupt;
use super::proc;
use super::quiet::Watched;
use super::road::{LEFT, RIGHT};
use super::scrap::Folder;
use super::space::Space;
use super::testpmd;
use super::traffic::Kind;
use pmd_shim::kernel::ingress;
use rustix::process::{Pid, setpriority_process};
use std::path::Path;
use std::time::Duration;

/// How long a contender may take to begin.
const START_WITHIN: Duration = Duration::from_secs(30);

/// Drivers of the appliance, and devices of DPDK, for interfaces of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// Packet sockets.
    AfPacket,
    /// XDP sockets.
    AfXdp,
}

impl Driver {
    /// As in the appliance's configuration.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AfPacket => "af_packet",
            Self::AfXdp => "af_xdp",
        }
    }
}

/// A contender in its namespace.
pub(crate) struct Contender {
    name: String,
    kind: Kind,
    core: usize,
    what: What,
    /// Where its configuration and its sockets are; gone after its process.
    _folder: Option<Folder>,
    /// The kernel's own thread for soft interrupts that are too many, on the contender's core.
    soft: Vec<Watched>,
}

enum What {
    /// A process, with the beginning of its workers' names.
    Process(Process, &'static str),
    /// The kernel's threads that poll the interfaces.
    Kernel(Vec<u32>),
}

impl Contender {
    /// `nva run` with this configuration, in a namespace of its own or in everybody's.
    pub(crate) fn nva(
        space: Option<&Space>,
        program: &Path,
        config: &str,
        cores: Cores,
        interrupt: &Interrupt,
    ) -> Result<Self, String> {
        let folder = Folder::new("nva")?;
        let (file, socket) = (folder.file("nva.yaml"), folder.file("nva.sock"));
        std::fs::write(&file, config).map_err(|error| format!("{}: {error}", file.display()))?;
        let args =
            ["run", "--config", &file.display().to_string(), "--socket", &socket.display().to_string()]
                .map(str::to_owned);
        let wrapper = space.map(|space| space.command("env"));
        let mut process =
            Process::start("nva", wrapper, &program.display().to_string(), &args, &cores.both())?;
        process.wait_for(Bookmark::START, "forwarding on", START_WITHIN, interrupt)?;
        Self::of("nva", Kind::Routes, cores, What::Process(process, "nva-worker"), Some(folder))
    }

    /// `dpdk-testpmd`, which swaps the Ethernet addresses.
    pub(crate) fn testpmd(
        space: &Space,
        driver: Driver,
        cores: Cores,
        interrupt: &Interrupt,
    ) -> Result<Self, String> {
        // The appliance keeps the kernel from what it receives; so that both do a like amount of work, this is done for testpmd.
        for device in [LEFT, RIGHT] {
            space.run(|| ingress::hold(device))?.map_err(|error| error.to_string())?;
        }
        let devices = [LEFT, RIGHT].into_iter().enumerate().map(|(number, device)| match driver {
            Driver::AfPacket => format!(
                "net_af_packet{number},iface={device},qdisc_bypass=1,blocksz=65536,framesz=2048,framecnt=4096"
            ),
            Driver::AfXdp => format!("net_af_xdp{number},iface={device},busy_budget=0"),
        });
        let name = format!("testpmd {}", driver.name());
        let mut contender = Self::testpmd_on(Some(space), &name, devices, cores, interrupt)?;
        contender.begin(interrupt)?;
        Ok(contender)
    }

    /// The same on any devices. It does not forward until it is to [begin](Self::begin).
    pub(crate) fn testpmd_on(
        space: Option<&Space>,
        name: &str,
        devices: impl IntoIterator<Item = String>,
        cores: Cores,
        interrupt: &Interrupt,
    ) -> Result<Self, String> {
        let args = testpmd::arguments(devices, "macswap", cores);
        let wrapper = space.map(|space| space.command("env"));
        let mut process = Process::start("dpdk-testpmd", wrapper, testpmd::PROGRAM, &args, &cores.both())?;
        testpmd::wait(&mut process, START_WITHIN, interrupt)?;
        Self::of(name, Kind::Swaps, cores, What::Process(process, testpmd::WORKER), None)
    }

    /// Has `dpdk-testpmd` forward. The others do from the start.
    pub(crate) fn begin(&mut self, interrupt: &Interrupt) -> Result<(), String> {
        match &mut self.what {
            What::Process(process, testpmd::WORKER) => testpmd::start(process, START_WITHIN, interrupt),
            What::Process(..) | What::Kernel(_) => Ok(()),
        }
    }

    /// The kernel's own forwarding, with these rules for `nft`.
    pub(crate) fn kernel(space: &Space, rules: &str, cores: Cores) -> Result<Self, String> {
        Self::kernel_with(space, cores, || if rules.is_empty() { Ok(()) } else { space.nft(rules) })
    }

    /// The kernel as a router that `prepare` makes more of, its polling in threads on the contender's core.
    pub(crate) fn kernel_with(
        space: &Space,
        cores: Cores,
        prepare: impl FnOnce() -> Result<(), String>,
    ) -> Result<Self, String> {
        for (device, address) in [(LEFT, "203.0.113.1/24"), (RIGHT, "10.2.0.1/24")] {
            space.ip(&format!("address add {address} dev {device}"))?;
            space.set(&format!("ipv4/conf/{device}/rp_filter"), "0")?;
        }
        space.set("ipv4/conf/all/rp_filter", "0")?;
        space.set("ipv4/ip_forward", "1")?;
        space.ip(&format!("route add default via 203.0.113.254 dev {LEFT}"))?;
        space.ip(&format!("neighbor add 203.0.113.254 lladdr 02:00:00:00:71:fe dev {LEFT} nud permanent"))?;
        space.ip(&format!("neighbor add 10.2.0.4 lladdr 02:00:00:00:02:04 dev {RIGHT} nud permanent"))?;
        prepare()?;
        let before = proc::processes("napi/");
        space.feed("ethtool", &["-K", RIGHT, "gro", "on"], "")?;
        space.feed(
            "sh",
            &["-c", &format!("for d in {LEFT} {RIGHT}; do echo 1 >/sys/class/net/$d/threaded; done")],
            "",
        )?;
        let mut threads = proc::processes("napi/");
        threads.retain(|pid| !before.contains(pid));
        if threads.is_empty() {
            return Err("the kernel has no threads that poll; Linux 5.12 is needed".into());
        }
        for pid in &threads {
            space.feed("taskset", &["-p", "-c", &cores.worker.to_string(), &pid.to_string()], "")?;
            // As what this program starts. Who may not do that measures as well, on a machine that has to be calmer.
            let thread = i32::try_from(*pid).ok().and_then(Pid::from_raw);
            let _ = setpriority_process(thread, -20);
        }
        Self::of("the kernel", Kind::Routes, cores, What::Kernel(threads), None)
    }

    fn of(name: &str, kind: Kind, cores: Cores, what: What, folder: Option<Folder>) -> Result<Self, String> {
        let soft = Watched::soft_interrupts(cores.worker);
        Ok(Self { name: name.to_owned(), kind, core: cores.worker, what, _folder: folder, soft })
    }

    /// For people.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What its process said last; nothing for the kernel.
    pub(crate) fn last_words(&self) -> String {
        match &self.what {
            What::Process(process, _) => process.last_words(),
            What::Kernel(_) => String::new(),
        }
    }

    /// What it does to frames.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Memory that its process holds, in KiB (`VmRSS`); none for the kernel.
    pub(crate) fn resident_kib(&self) -> Result<Option<u64>, String> {
        match &self.what {
            What::Process(process, _) => proc::resident_kib(process.pid()).map(Some),
            What::Kernel(_) => Ok(None),
        }
    }

    /// The threads that do its work, all on its core.
    pub(crate) fn threads(&self) -> Result<Vec<Watched>, String> {
        let core = self.core;
        let mut threads: Vec<Watched> = match &self.what {
            What::Process(process, name) => {
                let pid = process.pid();
                proc::threads(pid, name)?.into_iter().map(|tid| Watched::new(pid, tid, core)).collect()
            }
            What::Kernel(threads) => threads.iter().map(|pid| Watched::new(*pid, *pid, core)).collect(),
        };
        if threads.is_empty() {
            return Err(format!("{} has no worker any more", self.name));
        }
        threads.extend(&self.soft);
        Ok(threads)
    }

    /// Keeps it off its core. The kernel is off it without traffic.
    pub(crate) fn suspend(&self) -> Result<(), String> {
        match &self.what {
            What::Process(process, ..) => process.suspend(),
            What::Kernel(_) => Ok(()),
        }
    }

    /// Its turn.
    pub(crate) fn resume(&self) -> Result<(), String> {
        match &self.what {
            What::Process(process, ..) => process.resume(),
            What::Kernel(_) => Ok(()),
        }
    }
}
