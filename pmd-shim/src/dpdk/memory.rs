//! Whether the memory that DPDK is to have can be had, before it asks for it in its own words.

use super::EalError;
use core::fmt;
use std::fs;
use std::path::Path;

/// The pages of DPDK's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hugepages {
    /// Of 2 MiB.
    #[default]
    Size2M,
    /// Of 1 GiB.
    Size1G,
    /// Ordinary ones: nothing has to be set aside, and packets cost more misses of the translation cache. Physical devices
    /// want the others.
    None,
}

impl Hugepages {
    /// Bytes of a page and the kernel's folder for it; `None` for ordinary pages.
    fn page(self) -> Option<(usize, &'static str)> {
        match self {
            Self::Size2M => Some((2 << 20, "hugepages-2048kB")),
            Self::Size1G => Some((1 << 30, "hugepages-1048576kB")),
            Self::None => None,
        }
    }
}

impl fmt::Display for Hugepages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size2M => "2M",
            Self::Size1G => "1G",
            Self::None => "none",
        })
    }
}

const FOLDER: &str = "/sys/kernel/mm/hugepages";

/// Refuses what the kernel does not have: `memory_mib` MiB in free pages of this kind.
pub(super) fn check(hugepages: Hugepages, memory_mib: u32) -> Result<(), EalError> {
    check_in(Path::new(FOLDER), hugepages, memory_mib)
}

fn check_in(folder: &Path, hugepages: Hugepages, memory_mib: u32) -> Result<(), EalError> {
    let Some((page, name)) = hugepages.page() else { return Ok(()) };
    let wanted = ((memory_mib as usize) << 20).div_ceil(page);
    let read = |file: &str| {
        let text = fs::read_to_string(folder.join(name).join(file)).ok()?;
        text.trim().parse::<usize>().ok()
    };
    let Some(free) = read("free_hugepages") else {
        return Err(EalError::check(
            format!("the kernel has no huge pages of {hugepages}"),
            "use pages of another size, or `none` (dataplane.dpdk.hugepages)",
        ));
    };
    if free >= wanted {
        return Ok(());
    }
    let all = read("nr_hugepages").unwrap_or(free);
    let target = all - free.min(all) + wanted;
    let command = match hugepages {
        Hugepages::Size2M => format!("`sysctl vm.nr_hugepages={target}`"),
        _ => format!(
            "`echo {target} > {FOLDER}/{name}/nr_hugepages`, or `hugepagesz=1G hugepages={target}` on the kernel's command line"
        ),
    };
    Err(EalError::check(
        format!(
            "{memory_mib} MiB need {wanted} free huge pages of {hugepages}, and {free} of {all} are free"
        ),
        format!("set some aside with {command}, or ask for less memory or for `hugepages: none`"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(pages: &str, nr: usize, free: usize) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("pmd-shim-huge-{}-{nr}-{free}", std::process::id()));
        fs::create_dir_all(folder.join(pages)).unwrap();
        fs::write(folder.join(pages).join("nr_hugepages"), format!("{nr}\n")).unwrap();
        fs::write(folder.join(pages).join("free_hugepages"), format!("{free}\n")).unwrap();
        folder
    }

    #[test]
    fn says_how_to_get_what_is_missing() {
        let folder = kernel("hugepages-2048kB", 100, 30);
        assert_eq!(check_in(&folder, Hugepages::Size2M, 60), Ok(()));
        assert_eq!(
            check_in(&folder, Hugepages::Size2M, 61).unwrap_err().to_string(),
            "DPDK: 61 MiB need 31 free huge pages of 2M, and 30 of 100 are free; set some aside with \
             `sysctl vm.nr_hugepages=101`, or ask for less memory or for `hugepages: none`"
        );
        assert_eq!(
            check_in(&folder, Hugepages::Size1G, 1).unwrap_err().to_string(),
            "DPDK: the kernel has no huge pages of 1G; use pages of another size, or `none` (dataplane.dpdk.hugepages)"
        );
        assert_eq!(check_in(&folder, Hugepages::None, 1 << 20), Ok(()));
        fs::remove_dir_all(folder).unwrap();
    }
}
