//! DPDK ports against the kernel, files, and another process.
//!
//! DPDK starts once in a process, so every test runs in a process of its own: this program again, told by the environment which.
#![cfg(feature = "dpdk")]

mod common;

use common::{Netns, run, skipped};
use pmd_shim::dpdk::{
    self, DpdkOptions, DpdkPort, Eal, EalOptions, End, Hugepages, KEY_BYTES, Mbuf, MbufPool, Spread,
};
use pmd_shim::kernel::ingress;
use pmd_shim::pcap::{PcapReader, PcapWriter};
use pmd_shim::{Burst, Frame, PoolOptions, RxQueue, TxQueue, af_packet};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Names the test, and what it is in it, that a process of its own is for.
const APART: &str = "PMD_SHIM_DPDK_TEST";
/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// This program again, for one test. `part` is what it plays in it.
fn process(test: &str, part: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(APART, part)
        // Its own count of tests; what went wrong is on stderr.
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// What this process plays; `None` where it is the one that starts the others, which this does.
fn part(test: &str, parts: &[&str]) -> Option<String> {
    if let Ok(part) = std::env::var(APART) {
        return Some(part);
    }
    let children: Vec<Child> = parts.iter().map(|part| process(test, part)).collect();
    for (mut child, part) in children.into_iter().zip(parts) {
        let status = child.wait().unwrap();
        assert!(status.success(), "{test}, {part}: {status}");
    }
    None
}

fn eal(hugepages: Hugepages) -> Eal {
    Eal::start(&EalOptions { hugepages, memory_mib: 128, ..EalOptions::default() }).unwrap()
}

fn pool(eal: Eal, frames: usize) -> MbufPool {
    MbufPool::new(eal, PoolOptions { frames, data_room: 1518 }).unwrap()
}

fn options() -> DpdkOptions {
    DpdkOptions {
        mtu: Some(1500),
        rx_frames: 512,
        tx_frames: 512,
        spread: Spread { end: End::Source, key: [0x6d; KEY_BYTES] },
    }
}

fn open(eal: Eal, device: &str, pool: &MbufPool) -> DpdkPort {
    dpdk::open(eal, device, &options(), std::slice::from_ref(pool)).unwrap()
}

/// The content of frame `number`: an EtherType for experiments, so that nobody answers; the number; padding.
fn content(number: u32) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    bytes.extend_from_slice(&number.to_be_bytes());
    let len = 60 + number as usize * 7 % 1455;
    bytes.extend((bytes.len()..len).map(|at| (at as u8) ^ (number as u8)));
    bytes
}

fn is_ours(frame: &impl Frame) -> bool {
    frame.bytes().starts_with(&[2, 0, 0, 0, 0, 1])
}

/// Sends frames `0..count` out of `tx`, as fast as it takes them, while `rx` is to receive the same in order. Both sides get tries in
/// turn, since both are in this thread.
fn pass<F: Frame, G: Frame>(
    count: u32,
    tx: &mut impl TxQueue<Frame = F>,
    rx: &mut impl RxQueue<Frame = G>,
    make: impl Fn(&[u8]) -> Option<F>,
) {
    let (mut out, mut into) = (Burst::<F>::new(), Burst::<G>::new());
    let (mut made, mut received) = (0, 0);
    let end = Instant::now() + PATIENCE;
    while received < count {
        assert!(
            Instant::now() < end,
            "{received} of {count} frames came, {made} were made: {:?} {:?}",
            tx.counters(),
            rx.counters()
        );
        // Not more on the way than the smallest ring holds.
        while made < count && made - received < 200 && !out.is_full() {
            let Some(frame) = make(&content(made)) else { break };
            out.push(frame);
            made += 1;
        }
        tx.send(&mut out);
        rx.receive(&mut into);
        for frame in into.drain(..).filter(is_ours) {
            assert_eq!(frame.bytes(), content(received), "frame {received}");
            received += 1;
        }
    }
}

#[test]
fn starting_changes_nothing_but_what_it_is_for() {
    let test = "starting_changes_nothing_but_what_it_is_for";
    if part(test, &["alone"]).is_none() {
        return;
    }
    let state = || {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let kept = |line: &&str| {
            ["Cpus_allowed:", "SigBlk:", "SigIgn:", "SigCgt:"].iter().any(|name| line.starts_with(name))
        };
        let lines: Vec<String> = status.lines().filter(kept).map(str::to_owned).collect();
        (lines, fs::read_link("/proc/self/fd/1").unwrap())
    };
    let files = || {
        let names =
            |folder: &str| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let prefix = format!("nva-{}", std::process::id());
        let ours = |path: &PathBuf| path.to_string_lossy().contains(&prefix);
        names("/run/dpdk").chain(names("/dev/hugepages")).filter(ours).collect::<Vec<_>>()
    };
    let before = state();
    let eal = eal(Hugepages::None);
    assert_eq!(state(), before);
    assert_eq!(files(), Vec::<PathBuf>::new());
    drop(open(eal, "net_null0", &pool(eal, 1023)));
    assert_eq!(state(), before);
}

#[test]
fn an_argument_that_dpdk_refuses_is_said_in_one_sentence() {
    let test = "an_argument_that_dpdk_refuses_is_said_in_one_sentence";
    if part(test, &["alone"]).is_none() {
        return;
    }
    let options = EalOptions {
        hugepages: Hugepages::None,
        memory_mib: 64,
        arguments: vec!["--no-such-thing".into()],
        ..EalOptions::default()
    };
    let text = Eal::start(&options).unwrap_err().to_string();
    assert!(text.starts_with("DPDK: rte_eal_init failed: "), "{text}");
    assert!(text.ends_with("--no-pci --no-such-thing` (dataplane.dpdk)"), "{text}");
    assert!(!text.contains('\n'), "{text}");
}

#[test]
fn a_capture_is_received_and_written_whole_and_in_order() {
    let test = "a_capture_is_received_and_written_whole_and_in_order";
    if part(test, &["alone"]).is_none() {
        return;
    }
    const COUNT: u32 = 500;
    let path = |name: &str| std::env::temp_dir().join(format!("pmd-shim-dpdk-{}-{name}", std::process::id()));
    let (from, to) = (path("in.pcap"), path("out.pcap"));
    let mut writer = PcapWriter::create(&from).unwrap();
    (0..COUNT).for_each(|number| writer.write(0, &content(number)).unwrap());
    writer.finish().unwrap();
    let eal = eal(Hugepages::None);
    let pool = pool(eal, 1023);
    let device = format!("net_pcap0,rx_pcap={},tx_pcap={}", from.display(), to.display());
    let mut port = open(eal, &device, &pool);
    let mut burst = Burst::new();
    let (mut received, end) = (0, Instant::now() + PATIENCE);
    while received < COUNT as usize && Instant::now() < end {
        received += port.rx[0].receive(&mut burst);
        port.tx[0].send(&mut burst);
        burst.clear();
    }
    drop(port);
    assert_eq!(pool.in_use(), 0);
    let records = PcapReader::new(File::open(&to).unwrap()).unwrap();
    let written: Vec<Vec<u8>> = records.map(|record| record.unwrap().data).collect();
    assert_eq!(written.len(), COUNT as usize);
    for (bytes, number) in written.iter().zip(0..) {
        assert_eq!(*bytes, content(number));
    }
    [from, to].iter().for_each(|path| fs::remove_file(path).unwrap());
}

#[test]
fn two_processes_share_memory_and_lose_nothing() {
    let test = "two_processes_share_memory_and_lose_nothing";
    let Some(part) = part(test, &["server", "client"]) else { return };
    const COUNT: u32 = 20_000;
    let eal = eal(Hugepages::None);
    let pool = pool(eal, 4095);
    let _owner = pool.adopt().unwrap();
    // The same for both: they have one parent.
    // SAFETY: takes nothing and cannot fail.
    let parent = unsafe { libc::getppid() };
    let device =
        format!("net_memif0,role={part},socket=/tmp/pmd-shim-memif-{parent},socket-abstract=yes,rsize=10");
    let end = Instant::now() + PATIENCE;
    // A client is refused until there is a server.
    let mut port = loop {
        match dpdk::open(eal, &device, &options(), std::slice::from_ref(&pool)) {
            Ok(port) => break port,
            Err(error) => assert!(part == "client" && Instant::now() < end, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    while !port.link.state().unwrap().running {
        assert!(Instant::now() < end, "no connection");
    }
    let (rx, tx) = (&mut port.rx[0], &mut port.tx[0]);
    if part == "client" {
        pass(COUNT, tx, rx, |bytes| pool.copy_from(bytes));
    } else {
        let (mut burst, mut echoed) = (Burst::new(), 0);
        while echoed < COUNT as usize && Instant::now() < end {
            rx.receive(&mut burst);
            echoed += tx.send(&mut burst);
        }
        assert_eq!(echoed, COUNT as usize);
        // Until the other side has what is in the rings.
        while port.link.state().unwrap().running && Instant::now() < end {}
    }
    drop(port);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_tap_device_is_a_wire_to_the_kernel() {
    let test = "a_tap_device_is_a_wire_to_the_kernel";
    if skipped(test) || part(test, &["alone"]).is_none() {
        return;
    }
    let netns = Netns::new();
    netns.enter();
    let eal = eal(Hugepages::None);
    let pool = pool(eal, 4095);
    let mut port = open(eal, "net_tap0,iface=dtap0", &pool);
    assert!(port.interfaces.is_empty());
    run("ip addr add 10.77.0.1/24 dev dtap0");
    run("ip neigh add 10.77.0.2 lladdr 02:00:00:00:00:02 dev dtap0");
    let socket = UdpSocket::bind("10.77.0.1:7777").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(b"from the kernel", "10.77.0.2:7777").unwrap();
    let (mut burst, end) = (Burst::new(), Instant::now() + PATIENCE);
    let mut frame: Mbuf = loop {
        assert!(Instant::now() < end, "nothing came");
        port.rx[0].receive(&mut burst);
        let found = burst.drain(..).find(|frame| frame.bytes().ends_with(b"from the kernel"));
        if let Some(frame) = found {
            break frame;
        }
    };
    // Back to the sender: the other way round, all of it; checksums do not change by that.
    let bytes = frame.bytes_mut();
    let swap = |bytes: &mut [u8], one: usize, other: usize, len: usize| {
        (0..len).for_each(|at| bytes.swap(one + at, other + at));
    };
    swap(bytes, 0, 6, 6);
    swap(bytes, 26, 30, 4);
    swap(bytes, 34, 36, 2);
    burst.push(frame);
    assert_eq!(port.tx[0].send(&mut burst), 1);
    let mut answer = [0; 64];
    let (len, from) = socket.recv_from(&mut answer).unwrap();
    assert_eq!((&answer[..len], from.to_string()), (&b"from the kernel"[..], "10.77.0.2:7777".into()));
    drop(port);
    assert_eq!(pool.in_use(), 0);
}

/// Passes frames both ways between a DPDK device on `h0` of one namespace and a packet socket on `p0` of another, and sees to it
/// that the kernel is shut out. `kept` is how many frames a closed device may keep for itself.
fn over_veth(device: &str, kept: usize) {
    let (peer, host) = (Netns::new(), Netns::new());
    Netns::connect((&peer, "p0"), (&host, "h0"));
    let theirs = pmd_shim::Pool::new(PoolOptions { frames: 8192, data_room: 1518 }).unwrap();
    let small = af_packet::AfPacketOptions { rx_frames: 1024, tx_frames: 512, ..Default::default() };
    let mut far = peer.within(|| af_packet::open("p0", &small, std::slice::from_ref(&theirs)).unwrap());
    host.enter();
    let eal = eal(Hugepages::None);
    let pool = pool(eal, 8191);
    let pools = std::slice::from_ref(&pool);
    let refusal = || dpdk::open(eal, device, &options(), pools).map(|port| port.mac).unwrap_err().to_string();
    run("ip addr add 10.78.0.1/24 dev h0");
    assert_eq!(
        refusal(),
        "device h0: the kernel has addresses on the interface; \
         remove 10.78.0.1 with `ip addr flush dev h0` if the interface is meant for the appliance"
    );
    assert!(!ingress::is_held("h0").unwrap());
    run("ip addr flush dev h0");
    let mut port = open(eal, device, &pool);
    assert_eq!(port.interfaces, ["h0"]);
    assert!(ingress::is_held("h0").unwrap());
    assert_eq!(
        refusal(),
        "device h0: the device is in use by another instance; stop that one first, or name another device"
    );
    pass(20_000, &mut port.tx[0], &mut far.rx[0], |bytes| pool.copy_from(bytes));
    pass(20_000, &mut far.tx[0], &mut port.rx[0], |bytes| theirs.copy_from(bytes));
    // The kernel stays out when the port is closed.
    drop(port);
    assert!(ingress::is_held("h0").unwrap());
    assert!(pool.in_use() <= kept, "{pool:?}");
    // Nor is a device that keeps buffers one that can be opened twice.
    if kept == 0 {
        drop(open(eal, device, &pool));
        assert_eq!(pool.in_use(), 0);
    }
}

#[test]
fn packet_sockets_of_dpdks_work_on_a_held_interface() {
    let test = "packet_sockets_of_dpdks_work_on_a_held_interface";
    if !skipped(test) && part(test, &["alone"]).is_some() {
        over_veth("net_af_packet0,iface=h0,framesz=2048,blocksz=4096,framecnt=512", 0);
    }
}

#[test]
fn xdp_sockets_of_dpdks_work_on_a_held_interface() {
    let test = "xdp_sockets_of_dpdks_work_on_a_held_interface";
    if !skipped(test) && part(test, &["alone"]).is_some() {
        // libxdp keeps its programs in a file system of its own, here one that ends with the process.
        // SAFETY: takes no pointer; only this thread, and those that it starts, see other mounts.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
        run("mount --make-rprivate /");
        run("mount -t bpf bpf /sys/fs/bpf");
        // DPDK 22.11 does not give back what is in its fill ring of 2048, nor a batch of completions.
        over_veth("net_af_xdp0,iface=h0", 2048 + 64);
    }
}

#[test]
fn huge_pages_are_used_where_there_are_some() {
    let test = "huge_pages_are_used_where_there_are_some";
    let Some(part) = std::env::var(APART).ok() else {
        if skipped(test) {
            return;
        }
        let Some(_pages) = Pages::more(96) else {
            let _ = writeln!(std::io::stderr(), "skipped: {test}: the kernel gives no huge pages");
            return;
        };
        assert!(process(test, "alone").wait().unwrap().success());
        return;
    };
    assert_eq!(part, "alone");
    let free = || Pages::read("free_hugepages");
    let before = free();
    let eal = eal(Hugepages::Size2M);
    assert!(before >= free() + 64, "{before} huge pages were free, {} are", free());
    let pool = pool(eal, 4095);
    let mut port = open(eal, "net_ring0", &pool);
    let (rx, tx) = (&mut port.rx[0], &mut port.tx[0]);
    pass(10_000, tx, rx, |bytes| pool.copy_from(bytes));
    drop(port);
    assert_eq!(pool.in_use(), 0);
}

/// Huge pages of 2 MiB, given back on drop.
struct Pages(usize);

impl Pages {
    fn path(file: &str) -> PathBuf {
        Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").join(file)
    }

    fn read(file: &str) -> usize {
        fs::read_to_string(Self::path(file)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    fn add(count: isize) -> std::io::Result<()> {
        let now = Self::read("nr_hugepages");
        fs::write(Self::path("nr_hugepages"), now.saturating_add_signed(count).to_string())
    }

    /// So many more than there were; `None` where the kernel has no memory for them, or none of this kind.
    fn more(count: usize) -> Option<Self> {
        let before = Self::read("free_hugepages");
        match Self::add(count as isize) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => panic!("nr_hugepages: {error}"),
        }
        let pages = Self(count);
        (Self::read("free_hugepages") >= before + count).then_some(pages)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let _ = Self::add(-(self.0 as isize));
    }
}
