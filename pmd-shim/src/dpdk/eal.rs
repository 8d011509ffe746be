//! DPDK's environment: its memory, its buses and its threads. Once in a process.
//!
//! It is started on a thread of its own that ends at once, for what starting does to the calling thread: it pins it to one core, and
//! counts it among the packet threads. DPDK's own threads (interrupts) begin there too, with all signals blocked. Nothing is left
//! behind in the file system, and no telemetry socket is opened.

use super::memory::{self, Hugepages};
use super::{EalError, error, ffi, log};
use core::ffi::{CStr, c_char};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::sync::Mutex;
use std::{fs, mem, ptr, thread};

/// How the environment is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EalOptions {
    /// The pages of the memory.
    pub hugepages: Hugepages,
    /// How much memory there is for packets, in MiB. With huge pages more is taken when it is needed, if some are free.
    pub memory_mib: u32,
    /// Which PCI devices may be used, by address. Without one here or among the arguments, DPDK does not look at the PCI bus at all.
    pub pci: Vec<String>,
    /// More arguments, in DPDK's words.
    pub arguments: Vec<String>,
}

impl Default for EalOptions {
    /// 512 MiB in huge pages of 2 MiB, no PCI device, no further argument.
    fn default() -> Self {
        Self { hugepages: Hugepages::Size2M, memory_mib: 512, pci: Vec::new(), arguments: Vec::new() }
    }
}

/// The environment runs: a token that whoever needs it asks for. It runs until the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eal(());

impl Eal {
    /// Starts the environment.
    ///
    /// Devices that name a kernel interface look for it in the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`EalError`] when there is not enough memory, DPDK refuses an argument, or this is not the first call in the process: what
    /// DPDK has once begun it cannot begin again.
    pub fn start(options: &EalOptions) -> Result<Self, EalError> {
        static STARTED: Mutex<bool> = Mutex::new(false);
        let mut started = STARTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *started {
            return Err(EalError::check(
                "the environment can be started only once in a process",
                "this is a bug of the program",
            ));
        }
        memory::check(options.hugepages, options.memory_mib)?;
        *started = true;
        let arguments = arguments(options, std::process::id(), first_core());
        if !log::redirect() {
            return Err(EalError::check("there is no memory for DPDK's log", "free some"));
        }
        let outcome = log::keeping(|| {
            let thread = thread::Builder::new().name("dpdk-start".into());
            match thread.spawn(move || init(&arguments)).map(thread::JoinHandle::join) {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => {
                    Err(EalError::check("starting DPDK panicked", "this is a bug; see the message above"))
                }
                Err(error) => Err(EalError::check(
                    format!("no thread for DPDK: {error}"),
                    "raise the limit of processes",
                )),
            }
        });
        outcome.map(|()| Self(()))
    }

    /// The version of DPDK that is linked, as it calls itself.
    pub fn version(self) -> String {
        // SAFETY: returns a string that lives as long as the process.
        unsafe { CStr::from_ptr(ffi::rte_version()) }.to_string_lossy().into_owned()
    }
}

/// The command line in DPDK's words.
fn arguments(options: &EalOptions, process: u32, core: usize) -> Vec<String> {
    let mut all = vec!["nva".to_owned()];
    let mut add = |words: &[&str]| all.extend(words.iter().map(|word| (*word).to_owned()));
    let given = |words: &[&str]| {
        options.arguments.iter().any(|argument| words.iter().any(|word| is_option(argument, word)))
    };
    if !given(&["-l", "-c", "-s", "-S", "--lcores"]) {
        // One core, which does nothing: the workers are threads of ours.
        add(&["--lcores", &format!("0@{core}")]);
    }
    // No files that outlive the process, and no other process that shares the memory.
    match options.hugepages {
        Hugepages::None => add(&["--no-huge", "--no-shconf"]),
        _ => add(&["--in-memory"]),
    }
    if options.hugepages == Hugepages::None && !given(&["--iova-mode"]) {
        // No device reaches ordinary pages by physical addresses.
        add(&["--iova-mode", "va"]);
    }
    add(&["--no-telemetry", "--file-prefix", &format!("nva-{process}")]);
    add(&["-m", &options.memory_mib.to_string()]);
    if options.pci.is_empty() && !given(&["-a", "--allow", "-b", "--block"]) {
        add(&["--no-pci"]);
    }
    for address in &options.pci {
        add(&["-a", address]);
    }
    all.extend(options.arguments.iter().cloned());
    all
}

/// Whether an argument is this option, with a value in the same word or in the next.
fn is_option(argument: &str, option: &str) -> bool {
    match argument.strip_prefix(option) {
        Some(rest) => !option.starts_with("--") || rest.is_empty() || rest.starts_with('='),
        None => false,
    }
}

/// The first core that the process may run on.
fn first_core() -> usize {
    // SAFETY: a structure of integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: writes no more than the structure, which is borrowed for the call.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) } != 0 {
        return 0;
    }
    // SAFETY: every number is below the size of the set.
    (0..libc::CPU_SETSIZE as usize).find(|&core| unsafe { libc::CPU_ISSET(core, &set) }).unwrap_or(0)
}

/// Runs on a thread of its own.
fn init(arguments: &[String]) -> Result<(), EalError> {
    let broken =
        || EalError::check("an argument for DPDK contains a zero byte", "remove it (dataplane.dpdk.eal)");
    let words: Vec<CString> = arguments
        .iter()
        .map(|word| CString::new(word.as_str()))
        .collect::<Result<_, _>>()
        .map_err(|_| broken())?;
    // DPDK keeps pointers into its command line: it lives as long as the process.
    let mut words: Vec<*mut c_char> = words.into_iter().map(CString::into_raw).collect();
    let count = words.len();
    words.push(ptr::null_mut());
    let words = words.leak();
    // SAFETY: fills in and installs a set of signals for the calling thread, which ends soon, and for threads that it starts.
    unsafe {
        let mut all: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, ptr::null_mut());
    }
    // SAFETY: `count` strings and a null pointer, which live as long as the process; called once.
    if unsafe { ffi::shim_init(count as i32, words.as_mut_ptr()) } < 0 {
        let said: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
        return Err(EalError::call(
            "rte_eal_init",
            error::last(),
            format!("its arguments were `{}` (dataplane.dpdk)", said.join(" ")),
        ));
    }
    // The folder for what other processes would look for; nothing is in it.
    // SAFETY: returns a string that lives as long as the process.
    let folder = unsafe { CStr::from_ptr(ffi::rte_eal_get_runtime_dir()) };
    // It is not made in every mode, and one that is not empty is left alone.
    let _ = fs::remove_dir(OsStr::from_bytes(folder.to_bytes()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(options: &EalOptions) -> String {
        arguments(options, 42, 3).join(" ")
    }

    #[test]
    fn leaves_nothing_behind_and_touches_only_what_it_is_given() {
        assert_eq!(
            words(&EalOptions::default()),
            "nva --lcores 0@3 --in-memory --no-telemetry --file-prefix nva-42 -m 512 --no-pci"
        );
        let two = EalOptions {
            hugepages: Hugepages::None,
            memory_mib: 64,
            pci: vec!["0000:3b:00.0".into(), "0000:3b:00.1,class=eth".into()],
            arguments: Vec::new(),
        };
        assert_eq!(
            words(&two),
            "nva --lcores 0@3 --no-huge --no-shconf --iova-mode va --no-telemetry --file-prefix nva-42 -m 64 \
             -a 0000:3b:00.0 -a 0000:3b:00.1,class=eth"
        );
    }

    #[test]
    fn what_the_operator_chose_is_not_chosen_again() {
        let with = |arguments: &[&str]| {
            let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
            words(&EalOptions { arguments, ..EalOptions::default() })
        };
        let rest = "--in-memory --no-telemetry --file-prefix nva-42 -m 512";
        assert_eq!(with(&["-l", "1"]), format!("nva {rest} --no-pci -l 1"));
        assert_eq!(with(&["--lcores=0@1"]), format!("nva {rest} --no-pci --lcores=0@1"));
        assert_eq!(with(&["-a", "0002:00:02.0"]), format!("nva --lcores 0@3 {rest} -a 0002:00:02.0"));
        assert_eq!(
            with(&["--log-level=pmd:debug"]),
            format!("nva --lcores 0@3 {rest} --no-pci --log-level=pmd:debug")
        );
    }
}
