//! What the kernel tells of CPU time: `/proc/PID/task/TID/schedstat`, `/proc/stat`.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// A second has so many ticks in `/proc/stat` (`USER_HZ`, part of the kernel's interface).
pub(crate) const TICKS_PER_SECOND: u64 = 100;

/// A thread's time on a core, and its time waiting for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// Nanoseconds on a core.
    pub(crate) ran_ns: u64,
    /// Nanoseconds that it was ready to run and did not.
    pub(crate) waited_ns: u64,
}

/// Memory that a process holds, in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<u64, String> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    parse_resident(&text).ok_or_else(|| format!("{path} has no line VmRSS"))
}

fn parse_resident(text: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// A core's time, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CoreTicks {
    /// Programs and the kernel on their behalf.
    pub(crate) tasks: u64,
    /// Hardware interrupts.
    pub(crate) interrupts: u64,
    /// Soft interrupts, in which the kernel receives packets.
    pub(crate) soft_interrupts: u64,
    /// The hypervisor ran something else.
    pub(crate) stolen: u64,
    /// Nothing to do.
    pub(crate) idle: u64,
}

impl CoreTicks {
    /// What came after `before`.
    pub(crate) const fn since(&self, before: &Self) -> Self {
        Self {
            tasks: self.tasks.saturating_sub(before.tasks),
            interrupts: self.interrupts.saturating_sub(before.interrupts),
            soft_interrupts: self.soft_interrupts.saturating_sub(before.soft_interrupts),
            stolen: self.stolen.saturating_sub(before.stolen),
            idle: self.idle.saturating_sub(before.idle),
        }
    }
}

/// Ticks as time.
pub(crate) const fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 1000 / TICKS_PER_SECOND)
}

/// Reads a thread's schedule.
pub(crate) fn schedule(pid: u32, tid: u32) -> Result<Schedule, String> {
    let path = format!("/proc/{pid}/task/{tid}/schedstat");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    parse_schedule(&text).ok_or_else(|| format!("{path}: {text:?} is not a schedule"))
}

fn parse_schedule(text: &str) -> Option<Schedule> {
    let mut fields = text.split_ascii_whitespace().map(str::parse);
    Some(Schedule { ran_ns: fields.next()?.ok()?, waited_ns: fields.next()?.ok()? })
}

/// Reads the ticks of these cores.
pub(crate) fn core_ticks(cores: &[usize]) -> Result<Vec<CoreTicks>, String> {
    let text = fs::read_to_string("/proc/stat").map_err(|error| format!("/proc/stat: {error}"))?;
    cores
        .iter()
        .map(|core| parse_core(&text, *core).ok_or_else(|| format!("/proc/stat has no core {core}")))
        .collect()
}

/// The fields after the core's name are user, nice, system, idle, iowait, irq, softirq, steal, guest (within user), guest nice.
fn parse_core(text: &str, core: usize) -> Option<CoreTicks> {
    let name = format!("cpu{core}");
    let line = text.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        (fields.next() == Some(&name)).then_some(fields)
    })?;
    let fields: Vec<u64> = line.filter_map(|field| field.parse().ok()).collect();
    let [user, nice, system, idle, io, interrupts, soft_interrupts, stolen, ..] = fields[..] else {
        return None;
    };
    Some(CoreTicks { tasks: user + nice + system, interrupts, soft_interrupts, stolen, idle: idle + io })
}

/// The threads of a process whose name begins like this.
pub(crate) fn threads(pid: u32, name: &str) -> Result<Vec<u32>, String> {
    let path = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
    let mut found: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|tid: &u32| comm(&Path::new(&path).join(tid.to_string())).starts_with(name))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// The processes, kernel threads among them, whose name begins like this.
pub(crate) fn processes(name: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut found: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| comm(&Path::new("/proc").join(pid.to_string())).starts_with(name))
        .collect();
    found.sort_unstable();
    found
}

fn comm(folder: &Path) -> String {
    fs::read_to_string(folder.join("comm")).unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  30 0 30 900 1 3 40 2 0 0\ncpu0 10 1 20 300 1 1 30 0 0 0\n\
                        cpu10 7 7 7 7 7 7 7 7 7 7\ncpu1 20 2 10 600 0 2 10 4 5 6\nintr 1 2\n";

    #[test]
    fn a_schedule_is_two_numbers_and_more() {
        let schedule = Schedule { ran_ns: 123, waited_ns: 45 };
        assert_eq!(parse_schedule("123 45 6\n"), Some(schedule));
        assert_eq!(parse_schedule("123"), None);
        assert_eq!(parse_schedule("a b c"), None);
    }

    #[test]
    fn what_a_process_holds_is_one_line_of_its_status() {
        let text = "Name:\tnva\nVmHWM:\t    9000 kB\nVmRSS:\t    8456 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(parse_resident(text), Some(8456));
        assert_eq!(parse_resident("Name:\tkthreadd\n"), None);
        assert!(resident_kib(std::process::id()).is_ok_and(|kib| kib > 100));
    }

    #[test]
    fn each_core_has_its_own_line() {
        let first = CoreTicks { tasks: 31, interrupts: 1, soft_interrupts: 30, stolen: 0, idle: 301 };
        assert_eq!(parse_core(STAT, 0), Some(first));
        let second = CoreTicks { tasks: 32, interrupts: 2, soft_interrupts: 10, stolen: 4, idle: 600 };
        assert_eq!(parse_core(STAT, 1), Some(second));
        assert_eq!(parse_core(STAT, 2), None);
        assert_eq!(parse_core("cpu0 1 2 3\n", 0), None);
    }

    #[test]
    fn this_thread_is_found_and_has_run() {
        let found = threads(std::process::id(), "").expect("it has threads");
        assert!(!found.is_empty());
        let schedule = schedule(std::process::id(), found[0]).expect("it has a schedule");
        assert!(schedule.ran_ns > 0);
        assert!(core_ticks(&[0]).is_ok_and(|ticks| ticks[0].tasks > 0));
    }
}
